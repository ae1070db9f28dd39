# METADATA
# title: a part of the spec and a setting contradict each other
# description: >-
#   The image's entrypoint does not run: Metamorph's script starts the node, with the heap of metamorph.dev/heap and the rendered
#   configuration. Variables that only the entrypoint reads do nothing, a heap in another variable makes the JVM larger than its
#   memory was made for, or keeps it from starting, and a command of one's own leaves out identity, configuration and formatting.
# custom:
#   code: MM329
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Say it once: heap, memory, cpu, image and version in annotations, properties in metamorph.dev/config, and no command of your
#     own, or one that ends in the rendered script.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     variables:
#       type: array
#       items: {type: string}
#       # What bin/kafka-run-class.sh and bin/zkServer.sh read, and the start script does not set.
#       default: [KAFKA_OPTS, KAFKA_JMX_OPTS, KAFKA_GC_LOG_OPTS, KAFKA_DEBUG, KAFKA_HOME, KAFKA_VERSION, ZOO_NOEXEC, ZOO_DATADIR_AUTOCREATE_DISABLE]
#       description: Variables that begin with KAFKA_, ZOO_ or ZOOKEEPER_ and that something in the container reads.
package metamorph.policies.override_fights_setting

import data.metamorph.lib

# Most users write no pod template, and are done here.
deny contains result if {
	input.source.spec.template
	some result in contradictions
}

warn contains result if {
	input.source.spec.template
	some result in doubts
}

warn contains result if {
	input.settings.image.from != "rule"
	tag := lib.tag_version(lib.setting("image"))
	tag != lib.setting("version")

	# Of another line is refused, and tags of other people's images count otherwise.
	array.slice(lib.three_numbers(tag), 0, 2) == array.slice(lib.three_numbers(lib.setting("version")), 0, 2)
	result := {
		"msg": sprintf("the image is %s, against the version %s", [tag, lib.setting("version")]),
		"field": lib.container("image"),
		"annotation": "version",
		"fix": tag,
	}
}

# The last flag counts, and these variables stand behind the rendered heap on the JVM's command line.
contradictions contains result if {
	some name, text in texts
	name in late[input.role]
	some [_, flag, size] in regex.find_all_string_submatch_n(heap_flag, text, -1)
	bytes := jvm_bytes(size)
	bytes != lib.resource_quantity(lib.setting("heap"))
	result := {
		"msg": sprintf("%s sets %s%s, against the heap %s", [name, flag, size, lib.setting("heap")]),
		"field": variable(name),
		"annotation": "heap",
		"fix": lib.size(bytes),
	}
}

doubts contains result if {
	some name, text in texts
	name in {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"}
	regex.match(heap_flag, text)
	result := {
		"msg": sprintf("the heap in %s does nothing: the flags of the heap %s come after it", [name, lib.setting("heap")]),
		"field": variable(name),
	}
}

doubts contains result if {
	some name, text in texts
	flags := regex.find_n(`-XX:(Max|Min|Initial)RAM[A-Za-z]*`, text, 1)
	result := {
		"msg": sprintf("%s in %s does nothing: the heap is %s", [flags[0], name, lib.setting("heap")]),
		"field": variable(name),
	}
}

doubts contains result if {
	some name in env
	name in overwritten[input.role]
	result := {"msg": sprintf("%s does nothing: the start script decides it", [name]), "field": variable(name)}
}

# Somebody who brings a manifest along brings dozens.
doubts contains result if {
	names := sort([name |
		some name in env
		regex.match(`^(KAFKA|ZOO|ZOOKEEPER)_[A-Z0-9_]+$`, name)
		not name in overwritten[input.role]
		not name in data.parameters.variables
	])
	count(names) > 0
	result := {
		"msg": sprintf("nothing reads %s%s: only the image's entrypoint would, and it does not run", [concat(", ", array.slice(names, 0, 3)), others(count(names) - 3)]),
		"field": lib.container("env"),
	}
}

doubts contains result if {
	some [name, written] in source
	written.command
	not contains(concat(" ", input.containers[name].args), script)
	result := {
		"msg": sprintf("the container %s has a command of its own and does not run %s", [name, script]),
		"field": lib.container_place(name, "command"),
	}
}

doubts contains result if {
	some [name, written] in source
	written.args
	not written.command
	result := {
		"msg": sprintf("the args of the container %s do nothing: the rendered script takes none", [name]),
		"field": lib.container_place(name, "args"),
	}
}

# The step before formats the volume with one image, and the node starts with another.
contradictions contains result if {
	some [name, written] in source
	is_string(written.image)
	written.image != lib.setting("image")
	result := object.union(cure(name, "image", written.image), {
		"msg": sprintf("the container %s has the image %s, against the setting image %s", [name, written.image, lib.setting("image")]),
		"field": lib.container_place(name, "image"),
	})
}

doubts contains result if {
	some [input.role, written] in source
	some list, resource in {"limits": "memory", "requests": "cpu"}
	value := written.resources[list][resource]
	abs(lib.resource_quantity(value) - lib.resource_quantity(lib.setting(resource))) > 0.0001
	result := {
		"msg": sprintf("the container has the %s %v, against the setting %s, which heap and threads follow", [resource, value, lib.setting(resource)]),
		"field": lib.container(sprintf("resources.%s.%s", [list, resource])),
		"annotation": resource,
		"fix": sprintf("%v", [value]),
	}
}

# source is what the user wrote into the containers that are rendered, the main one and the step before it.
source contains [written.name, written] if {
	some list in ["containers", "initContainers"]
	some written in input.source.spec.template.spec[list]
	written.name in {input.role, "metamorph-init"}
}

# env are the names of the variables that the user gave the main container, and texts their values but for references.
env contains e.name if {
	some [input.role, written] in source
	some e in written.env
	is_string(e.name)
}

texts[name] := text if {
	some name in env
	text := lib.main.env[name]
	is_string(text)
}

late := {"kafka": ["KAFKA_OPTS", "_JAVA_OPTIONS"], "zookeeper": ["SERVER_JVMFLAGS", "JVMFLAGS", "_JAVA_OPTIONS"]}

overwritten := {
	"kafka": ["KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_LOG4J_OPTS"],
	"zookeeper": ["ZK_SERVER_HEAP", "ZOO_LOG_DIR", "ZOOCFGDIR"],
}

heap_flag := `(-Xmx|-Xms|-XX:MaxHeapSize=|-XX:InitialHeapSize=)([0-9]{1,15}[kKmMgGtT]?)`

jvm_bytes(size) := to_number(size) if regex.match(`[0-9]$`, size)

jvm_bytes(size) := units.parse_bytes(sprintf("%sib", [size])) if regex.match(`[a-zA-Z]$`, size)

variable(name) := lib.container(sprintf("env[%s]", [name]))

others(n) := sprintf(" and %d more", [n]) if n > 0

others(n) := "" if n <= 0

script := sprintf("/etc/metamorph/config/%s.sh", [input.role])

cure(name, key, value) := {"annotation": key, "fix": value} if name == input.role

cure(name, _, _) := {} if name != input.role
