# METADATA
# title: the pods may all run on one node
# description: >-
#   One broken or drained node then takes all copies of a partition away at once, or the majority of a quorum: the cluster
#   is down, and with local disks the data is gone. Replication protects from nothing that the copies share.
# custom:
#   code: MM316
#   severity: warn
#   profiles: {production: deny, dev: "off"}
#   fix: >-
#     Leave topologySpreadConstraints and affinity to Metamorph, or write constraints over kubernetes.io/hostname that select
#     the labels metamorph.dev/name and metamorph.dev/role. Choose nodes by a label that several of them have.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.spread

import data.metamorph.lib

node := "kubernetes.io/hostname"

pod_spec := "spec.template.spec"

deny contains result if {
	input.replicas > 1
	not spread
	result := {"msg": why, "field": sprintf("%s.topologySpreadConstraints", [pod_spec])}
}

why := "nothing spreads the pods over nodes" if not over_nodes

why := "what spreads pods over nodes does not select those of this set" if over_nodes

over_nodes if input.pod.topologySpreadConstraints[_].topologyKey == node

over_nodes if separate[_].topologyKey == node

# A constraint over nodes counts however soft it is, one over anything else (zones, racks) only if it is strict: with a soft one
# over zones that the nodes do not have, all pods may run on one node.
spread if {
	some constraint in input.pod.topologySpreadConstraints
	separates(constraint.topologyKey, constraint.whenUnsatisfiable == "DoNotSchedule")
	constraint.maxSkew < input.replicas
	lib.selects(constraint.labelSelector, lib.pod_labels)
}

spread if {
	some term in separate
	separates(term.topologyKey, term.strict)
	reaches(term)
}

separates(key, _) if key == node

separates(key, strict) if {
	key != node
	strict
}

separate contains object.union(term, {"strict": true}) if {
	some term in input.pod.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution
	is_object(term)
}

separate contains object.union(term, {"strict": false}) if {
	some weighted in input.pod.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution
	term := weighted.podAffinityTerm
	is_object(term)
}

# reaches tells whether a term of an affinity speaks of the set's own pods: by their labels, in their namespace.
reaches(term) if {
	lib.selects(term.labelSelector, lib.pod_labels)
	here(term)
}

here(term) if {
	not term.namespaces[0]
	not by_selector(term)
}

here(term) if input.namespace.name in term.namespaces

here(term) if lib.selects(term.namespaceSelector, input.namespace.labels)

by_selector(term) if is_object(term.namespaceSelector)

# All on one node, on purpose.

deny contains result if {
	name := input.pod.nodeName
	name != ""
	input.replicas > 1
	result := pinned(name, "nodeName")
}

deny contains result if {
	name := input.pod.nodeSelector[node]
	input.replicas > 1
	result := pinned(name, sprintf("nodeSelector[%s]", [node]))
}

deny contains result if {
	terms := input.pod.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
	input.replicas > 1
	names := {name | some term in terms; name := only_node(term)}
	count(names) == 1
	every term in terms { only_node(term) }
	some name in names
	result := pinned(name, "affinity.nodeAffinity")
}

deny contains result if {
	some term in input.pod.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution
	term.topologyKey == node
	input.replicas > 1
	reaches(term)
	result := {"msg": "the pods want to be on the node of one another", "field": sprintf("%s.affinity.podAffinity", [pod_spec])}
}

pinned(name, field) := {"msg": sprintf("all pods are to run on the node %v", [name]), "field": concat(".", [pod_spec, field])}

# only_node is the one node that a term allows, as far as its first such line tells.
only_node(term) := names[0] if {
	names := [name |
		some expression in array.concat(lines(term, "matchExpressions"), lines(term, "matchFields"))
		expression.key in {node, "metadata.name"}
		expression.operator == "In"
		[name] = expression.values
	]
}

lines(term, key) := term[key] if {
	is_array(term[key])
} else := []
