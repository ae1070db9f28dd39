# METADATA
# title: an update does not roll one node at a time
# description: >-
#   Replicas and quorum survive one node that is down, and no more. Nodes that start in order never get a quorum, because the first
#   is ready only when there is one; and a node counts as updated when it is ready, which is before its replicas are in sync again.
# custom:
#   code: MM337
#   severity: deny
#   profiles: {dev: warn}
#   fix: Leave podManagementPolicy, updateStrategy and minReadySeconds to Metamorph (Parallel, one pod at a time, 60 seconds).
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     seconds:
#       type: integer
#       minimum: 0
#       # Half of the rendered 60; a follower counts as in sync within replica.lag.time.max.ms, 30 s by default.
#       default: 30
#       description: The least minReadySeconds of brokers whose topics have replicas.
package metamorph.policies.rolling_update

import data.metamorph.lib

deny contains result if {
	input.object.spec.podManagementPolicy == "OrderedReady"
	quorum > 1
	result := {
		"msg": sprintf("pods start in order (OrderedReady), and a quorum of %d never forms", [quorum]),
		"field": "spec.podManagementPolicy",
	}
}

# Kubernetes rounds percentages down, and to one at least (getStatefulSetMaxUnavailable).
deny contains result if {
	strategy.rollingUpdate.maxUnavailable != 1
	input.replicas > 1
	down > 1
	result := {
		"msg": sprintf("an update takes %d of %d nodes down at once", [down, input.replicas]),
		"field": "spec.updateStrategy.rollingUpdate.maxUnavailable",
	}
}

warn contains result if {
	strategy.type == "OnDelete"
	result := {
		"msg": "an update reaches only pods that somebody deletes (OnDelete)",
		"field": "spec.updateStrategy.type",
	}
}

warn contains result if {
	partition := strategy.rollingUpdate.partition
	is_number(partition)
	partition > 0
	result := {
		"msg": sprintf("nodes below ordinal %v are left out of updates", [partition]),
		"field": "spec.updateStrategy.rollingUpdate.partition",
	}
}

warn contains result if {
	input.role == "kafka"
	input.replicas > 1
	seconds := object.get(input, ["object", "spec", "minReadySeconds"], 0)
	seconds < data.parameters.seconds
	lib.setting("replication-factor") != "1"
	input.profile != "dev"
	result := {
		"msg": sprintf("an update goes on %v s after a node is ready, when its replicas may not be in sync", [seconds]),
		"field": "spec.minReadySeconds",
	}
}

strategy := input.object.spec.updateStrategy

quorum := to_number(lib.setting("controllers")) if regex.match(`^[0-9]+$`, lib.setting("controllers"))

quorum := input.replicas if input.role == "zookeeper"

down := strategy.rollingUpdate.maxUnavailable if is_number(strategy.rollingUpdate.maxUnavailable)

down := floor((input.replicas * to_number(trim_suffix(strategy.rollingUpdate.maxUnavailable, "%"))) / 100) if {
	is_string(strategy.rollingUpdate.maxUnavailable)
	regex.match(`^[0-9]{1,3}%$`, strategy.rollingUpdate.maxUnavailable)
}
