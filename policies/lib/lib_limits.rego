# What LimitRanges do to containers.
package metamorph.lib

# limit_range_gives.KIND.RESOURCE is true for what the namespace's LimitRanges put into containers that do not say it. KIND is
# default, which is for limits, or defaultRequest.
limit_range_gives[kind][resource] if {
	some range in data.cluster.LimitRange[input.namespace.name]
	some limit in range.spec.limits
	limit.type == "Container"
	some kind in ["default", "defaultRequest"]
	limit[kind][resource]
}

# will_have tells whether a container, by its name, has a request or limit in the pod that is stored in the end: its own, its
# limit for its request, or the LimitRange's.
will_have(name, kind, resource) if input.containers[name][kind][resource] > 0

will_have(name, "requests", resource) if input.containers[name].limits[resource] > 0

will_have(_, "limits", resource) if limit_range_gives.default[resource]

will_have(_, "requests", resource) if limit_range_gives.default[resource]

will_have(_, "requests", resource) if limit_range_gives.defaultRequest[resource]
