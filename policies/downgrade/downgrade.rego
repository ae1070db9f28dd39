# METADATA
# title: an older version than the one that runs
# description: >-
#   A node that meets records of a newer metadata.version than its own stops: "this controller only supports versions …". A cluster
#   has its version's metadata.version from its first start, and after an upgrade from the moment that somebody raises it; from then
#   on there is no way back, and the update ends with the first node that does not come up again.
# custom:
#   code: MM334
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Keep the version. If metadata.version was not raised since the upgrade (kafka-features.sh describe shows it), permit the way
#     back with an exception that expires.
#   match: {roles: [kafka, zookeeper], operations: [UPDATE]}
package metamorph.policies.downgrade

import data.metamorph.lib

# Kafka's own downgrade is between lines; strimzi/strimzi-kafka-operator#10735 is one that was tried.
deny contains result if {
	input.role == "kafka"
	lower_line
	result := found
}

# ZooKeeper's data carries no such version: nobody tests the way back, and nothing forbids it.
warn contains result if {
	input.role == "zookeeper"
	lower_line
	result := found
}

warn contains result if {
	older
	not lower_line
	result := found
}

# The version stays, and the image is an older patch of its line.
warn contains result if {
	lib.setting("version") == lib.old_setting("version")
	was := lib.tag_version(lib.old_setting("image"))
	now := lib.tag_version(lib.setting("image"))
	now != was
	lib.three_numbers(now) < lib.three_numbers(was)
	line(now) == line(lib.setting("version"))
	line(was) == line(now)
	result := {
		"msg": sprintf("the image's version goes back from %s to %s", [was, now]),
		"field": lib.container("image"),
		"annotation": "image",
		"fix": lib.old_setting("image"),
	}
}

older if {
	lib.setting("version") != lib.old_setting("version")
	lib.three_numbers(lib.setting("version")) < lib.three_numbers(lib.old_setting("version"))
}

lower_line if {
	older
	line(lib.setting("version")) < line(lib.old_setting("version"))
}

line(version) := array.slice(lib.three_numbers(version), 0, 2)

found := {
	"msg": sprintf("the version goes back from %s to %s", [lib.old_setting("version"), lib.setting("version")]),
	"field": lib.container("image"),
	"annotation": "version",
	"fix": lib.old_setting("version"),
}
