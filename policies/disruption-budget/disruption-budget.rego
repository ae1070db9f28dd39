# METADATA
# title: the disruption budget does not fit the set
# description: >-
#   A drain of a node evicts as many pods at once as the budget allows. Without a budget, or with one that allows two, that is
#   more than a cluster of three copies survives; with one that allows none, or with two budgets on one pod, every drain
#   and every upgrade of the nodes hangs until somebody deletes pods by hand.
# custom:
#   code: MM317
#   severity: warn
#   profiles: {dev: audit}
#   fix: >-
#     Keep one PodDisruptionBudget that selects the set's pods, with maxUnavailable: 1.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     evictable:
#       type: integer
#       minimum: 1
#       default: 1
#       description: The most pods that a budget may let go at once.
package metamorph.policies.disruption_budget

import data.metamorph.lib

# It never denies: what is wrong is in other objects, often of other people, nothing is lost by it, and a set that is restored
# before its budgets must not be kept from coming back.

labels := "spec.template.metadata.labels"

budgets[name] := budget.spec if {
	some name, budget in data.cluster.PodDisruptionBudget[input.namespace.name]
	lib.selects(budget.spec.selector, lib.pod_labels)
}

deny contains {"msg": msg, "field": labels} if {
	count(budgets) > 1
	names := concat(", ", sort(object.keys(budgets)))
	msg := sprintf("%d budgets select the pods, and every eviction of a pod with more than one fails: %s", [count(budgets), names])
}

# Whoever changes something else is not bothered with it, outside production; the set and its budget come one after the other.
deny contains {"msg": "no budget selects the pods, so a drain may take all of them at once", "field": labels} if {
	budget_expected
	input.replicas > 1
	data.cluster.PodDisruptionBudget
	count(budgets) == 0
}

budget_expected if input.request.operation == "AUDIT"

budget_expected if {
	input.request.operation == "UPDATE"
	input.profile == "production"
}

deny contains {"msg": msg, "field": labels} if {
	some name, spec in budgets
	evictable(spec) > data.parameters.evictable
	input.replicas > data.parameters.evictable
	msg := sprintf("the budget %s lets %d pods be evicted at once (%s)", [name, evictable(spec), limit(spec)])
}

deny contains {"msg": msg, "field": labels} if {
	some name, spec in budgets
	evictable(spec) <= 0
	input.replicas > 0
	msg := sprintf("the budget %s lets no pod be evicted (%s)", [name, limit(spec)])
}

# evictable is the number of pods that may go at once, counted as the disruption controller does: percentages are rounded up, and
# a budget without either number allows nothing. A budget over all pods of the namespace counts others, too: of that one
# only what holds for any number of pods is said.
evictable(spec) := pods(spec.maxUnavailable)

evictable(spec) := input.replicas - pods(spec.minAvailable) if {
	not everything(spec.selector)
}

evictable(spec) := 0 if {
	not spec.maxUnavailable
	not spec.minAvailable
}

everything(selector) if {
	not selector.matchLabels
	not selector.matchExpressions
}

pods(value) := value if is_number(value)

pods(value) := ceil((input.replicas * to_number(trim_suffix(value, "%"))) / 100) if {
	is_string(value)
	regex.match(`^[0-9]{1,3}%$`, value)
}

limit(spec) := text if {
	some key in ["maxUnavailable", "minAvailable"]
	text := sprintf("%s: %v", [key, spec[key]])
} else := "neither maxUnavailable nor minAvailable"
