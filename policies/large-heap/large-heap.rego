# METADATA
# title: the heap is larger than it helps
# description: >-
#   From 32 GiB on the JVM cannot compress its references, so a heap a little above holds less than one a little below; and
#   collections take longer. A broker serves its consumers from the page cache, which is what the heap leaves of the memory:
#   with too little of it every consumer reads from the disk.
# custom:
#   code: MM343
#   severity: warn
#   profiles: {dev: "off"}
#   fix: Lower metamorph.dev/heap; a broker rarely needs more than 6Gi.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     compressed:
#       type: string
#       pattern: ^[0-9]+[MG]i$
#       # The limit of compressed references is 32 GiB less what the JVM puts below the heap.
#       default: 31Gi
#       description: The largest heap with compressed references.
#     cacheless:
#       type: string
#       pattern: ^[0-9]+[MG]i$
#       # Twice the 6 GB of the large cluster in Kafka's documentation (Java Version).
#       default: 12Gi
#       description: In production, the largest heap of a broker that may take more than half of its memory.
package metamorph.policies.large_heap

import data.metamorph.lib

deny contains result if {
	heap := lib.resource_quantity(lib.setting("heap"))
	heap > units.parse_bytes(data.parameters.compressed)
	result := {
		"msg": sprintf("the heap %s is above %s, where references are no longer compressed", [lib.setting("heap"), data.parameters.compressed]),
		"field": lib.container("resources.limits.memory"),
		"annotation": "heap",
		"fix": lib.size(floor(min([units.parse_bytes(data.parameters.compressed), lib.main.limits.memory / 2]))),
	}
}

deny contains result if {
	input.role == "kafka"
	input.profile == "production"
	heap := lib.resource_quantity(lib.setting("heap"))
	heap > units.parse_bytes(data.parameters.cacheless)
	heap <= units.parse_bytes(data.parameters.compressed)
	limit := lib.main.limits.memory
	heap > limit / 2
	result := {
		"msg": sprintf("the heap %s leaves less than half of the memory %s for the page cache", [lib.setting("heap"), lib.size(floor(limit))]),
		"field": lib.container("resources.limits.memory"),
		"annotation": "heap",
		"fix": lib.size(floor(limit / 2)),
	}
}
