# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Kubernetes objects against the schemas of one version, strictly: fields that it does not know are mistakes.

`python schemas.py VERSION CRD.yaml… < objects.yaml`; a line for each object, and 1 when one is not right.
"""

from __future__ import annotations

import sys

import jsonschema
import kubernetes_validate
import yaml


def strict(schema: dict) -> dict:
    """A CRD's schema in which an object has the fields that are named, and no others; as the API server would warn."""
    found = {name: strict(part) if isinstance(part, dict) else part for name, part in schema.items()}
    if isinstance(pattern := schema.get("pattern"), str):
        # Go lets flags stand anywhere.
        found["pattern"] = pattern.replace("^(?i)", "(?i)^")
    if "properties" in schema and "additionalProperties" not in schema:
        found["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        found["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
    return found


def main(version: str, *crds: str) -> int:
    kinds = {}
    for path in crds:
        with open(path, encoding="utf-8") as file:
            spec = yaml.safe_load(file)["spec"]
        for told in spec["versions"]:
            schema = told["schema"]["openAPIV3Schema"]
            schema["properties"]["metadata"] = {"type": "object", "additionalProperties": True}
            kinds[f"{spec['group']}/{told['name']}", spec["names"]["kind"]] = strict(schema)
    wrong = 0
    for document in yaml.safe_load_all(sys.stdin):
        name = document["apiVersion"], document["kind"]
        try:
            if name in kinds:
                jsonschema.validate(document, kinds[name])
            else:
                kubernetes_validate.validate(document, version, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            wrong += 1
            print(*name, getattr(error, "message", error), list(getattr(error, "absolute_path", ())), sep=": ")
        else:
            print(*name, "ok")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
