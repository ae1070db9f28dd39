# METADATA
# title: the heap leaves the JVM no room in the container's memory
# description: >-
#   A JVM needs memory besides its heap: metaspace, threads, direct buffers, and for a broker the page cache. Where heap and
#   limit are close, the kernel kills the container under load, and Kafka recovers its log, again and again.
# custom:
#   code: MM301
#   severity: deny
#   profiles: {dev: warn}
#   fix: Lower metamorph.dev/heap, or raise metamorph.dev/memory to twice the heap.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     share:
#       type: number
#       exclusiveMinimum: 0
#       maximum: 1
#       default: 0.8
#       description: The largest share of the memory limit that the heap may have.
package metamorph.policies.heap_memory

import data.metamorph.lib

deny contains result if {
	heap := lib.bytes(lib.setting("heap"))
	limit := lib.main.limits.memory
	heap > data.parameters.share * limit
	result := {
		"msg": sprintf("the heap %s takes more than %v %% of the memory limit %s", [lib.setting("heap"), 100 * data.parameters.share, lib.size(limit)]),
		"field": lib.container("resources.limits.memory"),
		"annotation": "heap",
		"fix": lib.size(limit / 2),
	}
}
