# METADATA
# title: the namespace's LimitRange refuses the pods
# description: >-
#   Kubernetes holds a LimitRange against pods and claims, and not against the StatefulSet: the set is accepted, no pod appears, and
#   only the set's events say why.
# custom:
#   code: MM332
#   severity: deny
#   profiles: {dev: warn}
#   fix: Change metamorph.dev/memory, cpu or storage, the resources of the container that is named, or the LimitRange.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.limit_range

import data.metamorph.lib

deny contains result if {
	some [range, item, subject] in held
	some resource, bound in item.max
	have := subject.limits[resource]
	have > lib.resource_quantity(bound)
	result := object.union(cure(subject, resource, {"memory", "storage"}, bound), {
		"msg": sprintf("the %s limit %s of %s is above %v, the most that the LimitRange %s allows", [resource, written(resource, have), subject.name, bound, range]),
	})
}

deny contains result if {
	some [range, item, subject] in held
	some resource, bound in item.min
	have := subject.requests[resource]
	have < lib.resource_quantity(bound)
	result := object.union(cure(subject, resource, {"memory", "cpu", "storage"}, bound), {
		"msg": sprintf("the %s request %s of %s is below %v, the least that the LimitRange %s allows", [resource, written(resource, have), subject.name, bound, range]),
	})
}

# A container without a limit of its own gets the LimitRange's, and a request above its limit is none.
deny contains result if {
	some [range, item, subject] in held
	item.type == "Container"
	some resource, limit in default_limits
	not subject.own[resource]
	have := subject.requests[resource]
	have > limit
	result := object.union(cure(subject, resource, {"cpu"}, limit), {
		"msg": sprintf("the %s request %s of %s is above %s, the limit that the LimitRange %s gives it", [resource, written(resource, have), subject.name, written(resource, limit), range]),
	})
}

deny contains result if {
	some [range, item, subject] in held
	some resource, bound in item.maxLimitRequestRatio
	subject.limits[resource] > lib.resource_quantity(bound) * subject.requests[resource]
	result := object.union(cure(subject, resource, set(), bound), {
		"msg": sprintf("the %s limit %s of %s is more than %v times its request, against the LimitRange %s", [resource, written(resource, subject.limits[resource]), subject.name, bound, range]),
	})
}

# What bounds a limit asks for one. A container's default is the maximum where there is no other.
deny contains result if {
	some [range, item, subject] in held
	some bounds in {"Container": ["maxLimitRequestRatio"], "Pod": ["max", "maxLimitRequestRatio"]}[item.type]
	some resource, _ in item[bounds]
	not subject.limits[resource]
	result := object.union(cure(subject, resource, set(), ""), {
		"msg": sprintf("%s has no %s limit, and the LimitRange %s bounds it", [subject.name, resource, range]),
	})
}

# held is every item of a LimitRange with what Kubernetes holds it against.
held contains [range, item, subject] if {
	some range, document in data.cluster.LimitRange[input.namespace.name]
	some item in document.spec.limits
	some subject in {"Container": containers, "Pod": [pod], "PersistentVolumeClaim": claims}[item.type]
}

# The steps that Metamorph puts before the main container have its resources.
containers := [subject |
	some name, container in input.containers
	not startswith(name, "metamorph-")
	subject := {
		"name": sprintf("the container %s", [name]), "field": lib.container_place(name, "resources"), "main": name == input.role,
		"own": container.limits, "limits": object.union(default_limits, container.limits),
		"requests": object.union(container.limits, container.requests), "beside": container.init == false,
	}
]

# Steps before the others, one at a time, add nothing to the sum.
pod := {
	"name": "the pod", "field": "spec.template.spec.containers", "main": false,
	"limits": total("limits"), "requests": total("requests"),
}

total(of) := {resource: sum(all) |
	some resource in {"memory", "cpu", "ephemeral-storage"}
	all := [n | some c in containers; c.beside; n := c[of][resource]]
	all != []
}

claims := [subject |
	some name, claim in input.claims
	size := {"storage": claim.storage}
	subject := {
		"name": sprintf("the claim %s", [name]), "field": sprintf("spec.volumeClaimTemplates[%s].spec.resources", [name]),
		"main": name == "data", "limits": size, "requests": size,
	}
]

# Of several defaults nobody knows which one counts; the smallest does the most harm.
default_limits := {resource: min(all) |
	some resource in {"memory", "cpu", "ephemeral-storage"}
	all := [n |
		some document in data.cluster.LimitRange[input.namespace.name]
		some item in document.spec.limits
		item.type == "Container"
		n := default_limit(item, resource)
	]
	all != []
}

default_limit(item, resource) := lib.resource_quantity(item["default"][resource])

default_limit(item, resource) := lib.resource_quantity(item.max[resource]) if not item["default"][resource]

# cure is where to change what: the annotation of the resource's name, where it decides it.
cure(subject, resource, annotations, value) := {"field": subject.field, "annotation": resource, "fix": sprintf("%v", [value])} if {
	subject.main
	resource in annotations
	resource != "memory" # a smaller broker is for people to decide, or a larger LimitRange
} else := {"field": subject.field, "annotation": resource} if {
	subject.main
	resource in annotations
} else := {"field": subject.field}

written("cpu", n) := sprintf("%v", [n])

written(resource, n) := lib.size(floor(n)) if resource != "cpu"
