# METADATA
# title: a field that a StatefulSet keeps for ever changes
# description: >-
#   Kubernetes fixes selector, serviceName, podManagementPolicy and volumeClaimTemplates at creation and refuses the update as a
#   whole, with everything else in it. To delete the set and make it anew, as is often advised, stops every node at once.
# custom:
#   code: MM327
#   severity: deny
#   fix: >-
#     Put the field back to what is stored. For larger volumes set metamorph.dev/storage: the claims grow, and their template stays as it
#     is. For anything else create a StatefulSet of another name, and let Kafka replicate to it.
#   match: {roles: [kafka, zookeeper], operations: [UPDATE]}
package metamorph.policies.immutable_fields

import data.metamorph.lib

deny contains {"msg": changed(was, now), "field": sprintf("spec.%s", [field])} if {
	input.oldObject
	some field in ["selector", "serviceName", "podManagementPolicy"]
	was := object.get(input.oldObject, ["spec", field], "")
	now := object.get(input.object, ["spec", field], "")
	was != now
}

changed(was, now) := sprintf("changes from %v to %v", [named(was), named(now)])

named(value) := "nothing" if {
	value in {"", null}
} else := value

deny contains {"msg": "the claim is taken away", "field": claim(name, "")} if {
	some name, _ in old_templates
	not templates[name]
}

deny contains {"msg": "the claim is new", "field": claim(name, "")} if {
	some name, _ in templates
	not old_templates[name]
}

deny contains object.union(cure(name, was, now), result) if {
	some name, template in templates
	was := old_templates[name].spec.resources.requests.storage
	now := template.spec.resources.requests.storage
	lib.resource_quantity(was) != lib.resource_quantity(now)
	result := {"msg": changed(was, now), "field": claim(name, ".spec.resources.requests.storage")}
}

cure("data", was, now) := {"annotation": "storage", "fix": sprintf("%v", [now])} if lib.resource_quantity(now) > lib.resource_quantity(was)

cure("data", was, now) := {"annotation": "storage"} if lib.resource_quantity(now) < lib.resource_quantity(was)

cure(name, _, _) := {} if name != "data"

deny contains {"msg": changed(was, now), "field": claim(name, sprintf(".%s.%s", [part, key]))} if {
	some name, template in templates
	old := old_templates[name]
	old != template
	some part, keys in {
		"metadata": ["labels", "annotations"],
		"spec": ["accessModes", "dataSource", "dataSourceRef", "selector", "storageClassName", "volumeAttributesClassName", "volumeMode", "volumeName"],
	}
	some key in keys
	was := object.get(old, [part, key], "")
	now := object.get(template, [part, key], "")
	was != now
}

claim(name, path) := sprintf("spec.volumeClaimTemplates[%s]%s", [name, path])

templates := by_name(list) if list != old_list

old_templates := by_name(old_list) if list != old_list

list := object.get(input.object, ["spec", "volumeClaimTemplates"], [])

old_list := object.get(input.oldObject, ["spec", "volumeClaimTemplates"], [])

by_name(claims) := {name: same[0] |
	some name in {n | n := claims[_].metadata.name}
	is_string(name)
	same := [template | some template in claims; template.metadata.name == name]
}
