# METADATA
# title: a ZooKeeper server is open, or fills its volume
# description: >-
#   Without purging, snapshots and logs stay until the volume is full, and the ensemble stops, with every broker on it. Without
#   access lists anybody who reaches the port may rewrite Kafka's metadata. Commands, connections and nodes without bounds let one
#   client stop a server.
# custom:
#   code: MM340
#   severity: deny
#   profiles: {dev: warn}
#   fix: Take the line out of metamorph.dev/config, or the flag out of JVMFLAGS and SERVER_JVMFLAGS; what is rendered is safe.
#   match: {roles: [zookeeper]}
#   parameters:
#     maxbuffer:
#       type: integer
#       minimum: 1048575
#       # Ten times ZooKeeper's own 1 MiB. A server must hold a request of this size for each connection, and a snapshot of them.
#       default: 10485760
#       description: The largest jute.maxbuffer, in bytes.
package metamorph.policies.zookeeper_hardening

import data.metamorph.lib

deny contains result if {
	input.config["autopurge.purgeInterval"] in {"0", "-1"}
	result := object.union(mended("autopurge.purgeInterval", "1"), {
		"msg": "snapshots and logs are never purged",
		"field": lib.line("autopurge.purgeInterval"),
	})
}

deny contains result if {
	lower(input.config.skipACL) == "yes"
	result := {"msg": "access lists are not checked (skipACL)", "field": lib.line("skipACL")}
}

deny contains result if {
	some name, value in flags
	regex.match(`-Dzookeeper\.skipACL=(?i:yes)(\s|$)`, value)
	result := {
		"msg": sprintf("access lists are not checked (skipACL in %s)", [name]),
		"field": lib.container(sprintf("env[%s]", [name])),
	}
}

warn contains result if {
	some command in split(input.config["4lw.commands.whitelist"], ",")
	trim_space(command) == "*"
	result := {
		"msg": "every four-letter command is open, those too that list every watch and hold the server up",
		"field": lib.line("4lw.commands.whitelist"),
	}
}

warn contains result if {
	lower(input.config["admin.enableServer"]) == "true"
	result := {
		"msg": "the admin server answers anybody, without TLS and login",
		"field": lib.line("admin.enableServer"),
	}
}

warn contains result if {
	input.config.maxClientCnxns == "0"
	result := object.union(mended("maxClientCnxns", "60"), {
		"msg": "one client may open any number of connections (maxClientCnxns)",
		"field": lib.line("maxClientCnxns"),
	})
}

warn contains result if {
	some name, value in flags
	some [_, bytes] in regex.find_all_string_submatch_n(`-Djute\.maxbuffer=([0-9]{1,12})(?:\s|$)`, value, -1)
	to_number(bytes) > data.parameters.maxbuffer
	result := {
		"msg": sprintf("requests and nodes may have %s (jute.maxbuffer)", [lib.size(to_number(bytes))]),
		"field": lib.container(sprintf("env[%s]", [name])),
	}
}

# flags are the JVM flags that come in by variables.
flags[name] := value if {
	some name in {"SERVER_JVMFLAGS", "JVMFLAGS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"}
	value := lib.main.env[name]
	is_string(value)
}

# mended is the setting config with a better value for one of its lines; nothing if the line is not there.
mended(key, value) := {"annotation": "config", "fix": trim_space(replaced)} if {
	config := lib.setting("config")
	replaced := regex.replace(config, sprintf(`(?m)^%s=.*$`, [replace(key, ".", `\.`)]), sprintf("%s=%s", [key, value]))
	replaced != config
} else := {}
