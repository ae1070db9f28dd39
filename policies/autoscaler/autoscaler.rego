# METADATA
# title: an autoscaler scales the set in
# description: >-
#   Scaling in takes the highest ordinals away, with the partitions that they hold: nothing moves them first, and their records
#   are out of reach until the brokers come back. New brokers get no partitions by themselves, so scaling out does not take
#   load off the old ones either; and an ensemble that changes its size with the load is soon without a quorum.
# custom:
#   code: MM333
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Delete the HorizontalPodAutoscaler and scale by hand, with the partitions moved first; for brokers, behavior.scaleDown with
#     selectPolicy Disabled is enough.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.autoscaler

deny contains result if {
	some name, autoscaler in data.cluster.HorizontalPodAutoscaler[input.namespace.name]
	autoscaler.spec.scaleTargetRef.kind == "StatefulSet"
	autoscaler.spec.scaleTargetRef.name == input.request.name
	least := object.get(autoscaler.spec, "minReplicas", 1)
	least != autoscaler.spec.maxReplicas
	not only_out(autoscaler)
	result := {
		"msg": sprintf("the HorizontalPodAutoscaler %s scales the set between %v and %v nodes", [name, least, autoscaler.spec.maxReplicas]),
		"field": "spec.replicas",
	}
}

# Brokers that are only added do no harm.
only_out(autoscaler) if {
	input.role == "kafka"
	autoscaler.spec.behavior.scaleDown.selectPolicy == "Disabled"
}
