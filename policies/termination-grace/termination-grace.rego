# METADATA
# title: a broker is killed before it has shut down
# description: >-
#   A broker that stops hands its leaderships over first, for which Kafka allows it up to 5 minutes, and then closes its logs. One
#   that is killed before has to recover them at the next start, partition by partition, and its partitions are without a leader
#   until the controller notices: at every restart and every drain of a node.
# custom:
#   code: MM339
#   severity: warn
#   profiles: {dev: "off", production: deny}
#   fix: Leave spec.template.spec.terminationGracePeriodSeconds out; 330 is rendered.
#   match: {roles: [kafka]}
#   parameters:
#     seconds:
#       type: integer
#       minimum: 1
#       # A small broker's shutdown takes seconds; 5 minutes is what KafkaBroker waits for the controller at most.
#       default: 60
#       description: The least seconds that a broker must have to stop.
package metamorph.policies.termination_grace

deny contains result if {
	grace := input.pod.terminationGracePeriodSeconds
	grace < data.parameters.seconds
	result := {
		"msg": sprintf("a broker has %v s to stop, and may need %v s", [grace, data.parameters.seconds]),
		"field": "spec.template.spec.terminationGracePeriodSeconds",
	}
}
