# METADATA
# title: the version is out of support, or is not that of the image
# description: >-
#   A line that is out of support gets no more fixes, neither for what loses records nor for what lets strangers in. And
#   where the image holds another line than the configuration was made for, the node may not start, may ignore what it does
#   not know, or may write what the version of its peers cannot read.
# custom:
#   code: MM311
#   severity: warn
#   profiles: {production: deny, dev: audit}
#   fix: Set metamorph.dev/version to a supported version, and let the image follow from it or be of the same line.
#   match: {roles: [kafka, zookeeper]}
#   parameters:
#     kafka:
#       type: array
#       items: {type: string, pattern: '^[0-9]{1,3}\.[0-9]{1,3}$'}
#       default: ["3.9", "4.0", "4.1", "4.2", "4.3"]
#       description: The supported lines of Kafka.
#     zookeeper:
#       type: array
#       items: {type: string, pattern: '^[0-9]{1,3}\.[0-9]{1,3}$'}
#       default: ["3.8", "3.9"]
#       description: The supported lines of ZooKeeper.
package metamorph.policies.unsupported_version

import data.metamorph.lib

deny contains object.union(cure, {
	"msg": sprintf("%s %s is out of support", [title, running.line]),
	"field": running.field,
}) if {
	old(running.line)
}

deny contains object.union(cure, {
	"msg": sprintf("the image holds %s %s, and the configuration is for %s", [title, line, configured]),
	"field": lib.container_place(name, "image"),
}) if {
	some name, line in lines
	line != configured
}

# What a newer Metamorph may know is not out of support.
old(line) if {
	supported := data.parameters[input.role]
	not line in supported
	numbers(line) < max([numbers(l) | some l in supported])
}

numbers(line) := [to_number(n) | some n in split(line, ".")]

configured := lib.line_of_version(lib.setting("version"))

# lines are those that the images of the node's containers name, where they do not simply follow the version.
lines := {name: line | some name, image in lib.node_images; line := lib.image_release_line(image)} if {
	not follow
} else := {}

follow if {
	lib.main.image.tag == input.settings.version.value
	lib.main.image.reference == input.containers["metamorph-init"].image.reference
}

# running is what the server's own container holds, as far as anybody can tell.
running := {"line": lines[input.role], "field": lib.container_place(input.role, "image")}

running := {"line": configured, "field": "metadata.annotations[metamorph.dev/version]"} if not lines[input.role]

title := {"kafka": "Kafka", "zookeeper": "ZooKeeper"}[input.role]

# cure is the image of the version that the configuration is for, if that is supported.
default cure := {}

cure := {"annotation": "image", "fix": lib.upstream_image(lib.main.image)} if {
	lines[input.role] != configured
	not old(configured)
}
