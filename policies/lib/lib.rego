# Functions and facts that policies share.
package metamorph.lib

# main is the container that runs the broker or the server.
main := input.containers[input.role]

# setting is the resolved value of a setting; undefined if there is none, or it is empty.
setting(key) := value if {
	value := input.settings[key].value
	value != ""
}

# old_setting is the value that it had before.
old_setting(key) := value if {
	value := input.oldSettings[key].value
	value != ""
}

# bytes is a Kubernetes quantity (1Gi) in bytes.
bytes(text) := units.parse_bytes(text)

# line is the field of a line of the configuration file.
line(key) := sprintf("spec.template.metadata.annotations[metamorph.dev/%s] %s", [file, key])

file := "zoo.cfg" if input.role == "zookeeper"

file := "server.properties" if input.role != "zookeeper"

# container is a field of the main container.
container(field) := sprintf("spec.template.spec.containers[%s].%s", [input.role, field])

# size writes bytes as Kubernetes does: whole Gi, or else Mi, rounded down.
size(n) := sprintf("%dGi", [floor(n / 1073741824)]) if whole_gi(n)

size(n) := sprintf("%dMi", [floor(n / 1048576)]) if not whole_gi(n)

whole_gi(n) if {
	n >= 1073741824
	floor(n) % 1073741824 == 0
}
