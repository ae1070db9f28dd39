# METADATA
# title: the namespace's quota does not let the pods in
# description: >-
#   A quota refuses pods and claims, not StatefulSets: the set is stored, some of its pods never appear, and the reason stands
#   in events only. A cluster that came up with two of three brokers has no node to lose.
# custom:
#   code: MM321
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Ask for less (metamorph.dev/memory, cpu, storage, spec.replicas), or have the quota raised. Where a quota counts limits.cpu, let a
#     LimitRange give containers a default, or write the limit into the spec.
#   match: {roles: [kafka, zookeeper], operations: [CREATE, UPDATE, SCALE]}
package metamorph.policies.quota

import data.metamorph.lib

# Amounts only warn. What is used is a moment's picture; claims that an earlier set of the name left behind are counted in it and
# will be used again; and the quota holds by itself. That no container may be without what a quota counts is certain.

quotas[name] := quota if {
	some name, quota in data.cluster.ResourceQuota[input.namespace.name]
	not scoped(quota.spec)
}

# Quotas with scopes count some pods only.
scoped(spec) if spec.scopes[_]

scoped(spec) if spec.scopeSelector.matchExpressions[_]

warn contains {"msg": msg, "field": "spec"} if {
	input.request.operation != "AUDIT"
	some name, quota in quotas
	some key, hard in quota.spec.hard
	is_string(key)
	used := object.get(quota, ["status", "used", key], 0)
	is_number(hard)
	is_number(used)
	left := max([0, hard - used])
	total("now", key) > left # cheaper than what follows, and mostly not so
	more := total("now", key) - before(key)
	more > left + 0.0005 # sums of thousandths of cores are not exact
	msg := sprintf("the quota %s has %s of %s left, and the set takes %s more", [name, written(key, left), key, written(key, more)])
}

before(key) := total("before", key) if input.oldObject

before(_) := 0 if not input.oldObject

# The two objects. Arguments of functions are compared as a whole, so these are names and not the objects.
spec("now") := input.object.spec

spec("before") := input.oldObject.spec

replicas("now") := input.replicas

replicas("before") := input.oldReplicas

storage("now") := lib.setting("storage")

storage("before") := lib.old_setting("storage")

# total is what a set takes of what a quota counts; undefined for what is not counted here.
total(when, key) := replicas(when) * of_pod(when, counted[key][0], counted[key][1])

total(when, "pods") := replicas(when)

total(when, "count/pods") := replicas(when)

total(when, "persistentvolumeclaims") := claims(when)

total(when, "count/persistentvolumeclaims") := claims(when)

total(when, "requests.storage") := replicas(when) * sum([size(template, when) | some template in spec(when).volumeClaimTemplates])

total(when, key) := replicas(when) * sum([size(template, when) |
	some template in spec(when).volumeClaimTemplates
	class(template) == name
]) if {
	endswith(key, of_class)
	name := trim_suffix(key, of_class)
}

claims(when) := replicas(when) * count([1 | some _ in spec(when).volumeClaimTemplates])

of_class := ".storageclass.storage.k8s.io/requests.storage"

counted := {
	"cpu": ["requests", "cpu"], "requests.cpu": ["requests", "cpu"], "limits.cpu": ["limits", "cpu"],
	"memory": ["requests", "memory"], "requests.memory": ["requests", "memory"], "limits.memory": ["limits", "memory"],
}

# of_pod is the least that a pod is counted with: its containers together, or the largest init container. Init containers that
# stay count as containers.
of_pod(when, kind, resource) := max({running} | starting) if {
	pod := spec(when).template.spec
	not pod.resources # for all containers together
	running := sum(array.concat(
		[n | some c in pod.containers; n := asked(c.resources, kind, resource)],
		[n | some c in pod.initContainers; c.restartPolicy == "Always"; n := asked(c.resources, kind, resource)],
	))
	starting := {n | some c in pod.initContainers; n := asked(c.resources, kind, resource)}
}

# The API server takes the limit for the request where there is only a limit.
asked(resources, kind, resource) := n if {
	n := lib.resource_quantity(resources[kind][resource])
} else := n if {
	kind == "requests"
	n := lib.resource_quantity(resources.limits[resource])
}

# size is what a claim asks for in the end: the data's grows with the setting, which its template cannot.
size(template, when) := max({n |
	some quantity in [template.spec.resources.requests.storage, of_data(template.metadata.name, when)]
	n := lib.resource_quantity(quantity)
})

of_data("data", when) := storage(when)

of_data(name, _) := 0 if name != "data"

class(template) := template.spec.storageClassName if {
	template.spec.storageClassName
} else := lib.default_class.metadata.name

written(key, n) := lib.size(round(n)) if regex.match(`memory$|storage$`, key)

written(key, n) := sprintf("%v", [round(n * 1000) / 1000]) if not regex.match(`memory$|storage$`, key)

deny contains {"msg": msg, "field": "spec.template.spec.containers"} if {
	some name, quota in quotas
	some key, [kind, resource] in counted
	quota.spec.hard[key]
	not input.pod.resources
	data.cluster.LimitRange # which may give it
	without := sort([container |
		some container, _ in input.containers
		not lib.will_have(container, kind, resource)
	])
	count(without) > 0
	msg := sprintf("the quota %s counts %s, of which these containers have none: %s", [name, key, concat(", ", without)])
}
