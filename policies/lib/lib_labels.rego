# Label selectors, as Kubernetes matches them.
package metamorph.lib

# pod_labels are those of every pod of the set. What the StatefulSet controller adds to each pod (its name, its ordinal, its
# revision) is not among them.
pod_labels := input.object.spec.template.metadata.labels

# selects tells whether a label selector matches labels. An empty selector matches everything; none at all, or null, nothing.
selects(selector, labels) if {
	is_object(selector)
	not other_label(selector, labels)
	not unmet_expression(selector, labels)
}

other_label(selector, labels) if {
	some key, value in selector.matchLabels
	not labels[key] == value
}

unmet_expression(selector, labels) if {
	some expression in selector.matchExpressions
	not expression_met(expression, labels)
}

expression_met(expression, labels) if {
	expression.operator == "In"
	label_listed(expression, labels)
}

# A label that is not there is in no list.
expression_met(expression, labels) if {
	expression.operator == "NotIn"
	not label_listed(expression, labels)
}

expression_met(expression, labels) if {
	expression.operator == "Exists"
	labels[expression.key]
}

expression_met(expression, labels) if {
	expression.operator == "DoesNotExist"
	not labels[expression.key]
}

label_listed(expression, labels) if labels[expression.key] in expression.values
