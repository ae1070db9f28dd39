# METADATA
# title: brokers still use the ensemble
# description: >-
#   Without ZooKeeper no leader is elected, no broker registers and no topic changes: the brokers go on for a while, and the next
#   one that stops takes its partitions out of service until the ensemble is back.
# custom:
#   code: MM328
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Delete the sets of brokers first, or scale them to 0. In a manifest with both, kubectl delete works through the file from the
#     top: put the brokers above the ensemble, or delete once more.
#   match: {roles: [zookeeper], operations: [DELETE, SCALE, UPDATE]}
package metamorph.policies.ensemble_in_use

import data.metamorph.lib

deny contains {"msg": sprintf("is used by the brokers of %s", [concat(", ", sort(users))])} if {
	input.request.operation == "DELETE"
	count(users) > 0
}

deny contains {"msg": sprintf("0 servers, and the brokers of %s use them", [concat(", ", sort(users))]), "field": "spec.replicas"} if {
	input.request.operation != "DELETE"
	input.replicas == 0
	input.oldReplicas > 0
	count(users) > 0
}

# users are the sets with brokers that run. An address without a namespace means the set's own.
users contains sprintf("%s/%s", [namespace, name]) if {
	some namespace, sets in data.cluster.StatefulSet
	some name, set in sets
	set.settings.zookeeper != "false"
	set.role == "kafka"
	set.replicas > 0
	some server in lib.zookeeper_servers(set.settings.zookeeper, namespace, name)
	startswith(server, sprintf("%s.%s:", [input.request.name, input.namespace.name]))
}
