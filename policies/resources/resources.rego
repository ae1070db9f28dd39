# METADATA
# title: the node does not know what the pods need
# description: >-
#   Without requests the scheduler puts brokers where there is no room for them, and the kubelet evicts them first when the
#   node runs short. Without a memory limit a leak takes the node and its other pods along, instead of one broker.
# custom:
#   code: MM320
#   severity: warn
#   profiles: {production: deny, dev: audit}
#   fix: >-
#     Set metamorph.dev/memory and metamorph.dev/cpu, or leave resources to Metamorph. Requests and limits need not be equal, and a cpu
#     limit is not asked for: it slows brokers down.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.resources

import data.metamorph.lib

deny contains result if {
	lib.main
	not lib.will_have(input.role, "limits", "memory")
	result := missing("limits", "memory")
}

deny contains result if {
	lib.main
	some resource in ["memory", "cpu"]
	not lib.will_have(input.role, "requests", resource)
	result := missing("requests", resource)
}

missing(kind, resource) := {
	"msg": sprintf("the container %s has no %s %s", [input.role, resource, trim_suffix(kind, "s")]),
	"field": lib.container(sprintf("resources.%s.%s", [kind, resource])),
}
