# METADATA
# title: the set uses ZooKeeper, and its Kafka has none
# description: >-
#   Kafka 4.0 and later cannot use ZooKeeper. Such a broker does not start, and one that did start in KRaft mode would begin
#   an empty cluster beside the one that ZooKeeper knows.
# custom:
#   code: MM312
#   severity: deny
#   fix: >-
#     Stay with Kafka 3.9 (metamorph.dev/version) as long as the set uses ZooKeeper. Without ZooKeeper begins a new
#     StatefulSet, to which the topics are replicated.
#   match: {roles: [kafka]}
package metamorph.policies.zookeeper_with_4

import data.metamorph.lib

deny contains object.union(cure, {"msg": sprintf("%s, and %s has no ZooKeeper", [uses, what]), "field": field}) if {
	some [what, field] in without
}

uses := sprintf("the set uses ZooKeeper (%s)", [input.settings.zookeeper.value]) if {
	not input.settings.zookeeper.value in ["", "false"]
} else := "zookeeper.connect is set" if {
	lib.node_properties["zookeeper.connect"]
}

without contains [sprintf("Kafka %s", [version]), "metadata.annotations[metamorph.dev/version]"] if {
	uses
	version := lib.setting("version")
	lib.whole_number(split(version, ".")[0]) >= 4
}

without contains [image.reference, lib.container_place(name, "image")] if {
	uses
	some name, image in lib.node_images
	after_3(image)
}

after_3(image) if lib.image_release(image)[0] >= 4

# The project's own latest has been a 4 since March 2025.
after_3(image) if {
	image.tag == "latest"
	image.registry == "docker.io"
	image.repository == "apache/kafka"
}

default cure := {}

cure := {"annotation": "image", "fix": lib.upstream_image(lib.main.image)}
