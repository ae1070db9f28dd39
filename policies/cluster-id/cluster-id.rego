# METADATA
# title: two Kafka clusters with one id
# description: >-
#   The id is what keeps a broker out of another cluster: with the same one, a wrong address or a swapped volume makes two
#   clusters one, which sets the partitions of the other aside as strays. Clients and tools that tell clusters apart by id mix
#   them up, too.
# custom:
#   code: MM325
#   severity: deny
#   fix: >-
#     Leave metamorph.dev/cluster-id out of a manifest for another cluster: the id follows from namespace and name. A set that is
#     restored beside its original must keep the id of its volumes; remove the original, or keep the two apart by a NetworkPolicy.
#   match: {roles: [kafka], operations: [CREATE]}
package metamorph.policies.cluster_id

# Another namespace only warns: a restore beside the original, to see whether a backup is any good, is right to have its id,
# and its nodes find each other by names that are good in their own namespace only.

field := "metadata.annotations[metamorph.dev/cluster-id]"

id := input.object.metadata.annotations["metamorph.dev/cluster-id"]

deny contains {"msg": sprintf("%s in this namespace has the cluster id %s already", [name, id]), "field": field} if {
	some name, set in data.cluster.StatefulSet[input.namespace.name]
	set.clusterID == id
	name != input.request.name
}

warn contains {"msg": sprintf("%s/%s has the cluster id %s already", [namespace, name, id]), "field": field} if {
	id
	some namespace, sets in data.cluster.StatefulSet
	namespace != input.namespace.name
	some name, set in sets
	set.clusterID == id
}
