# What a node reads: the lines of its configuration file, and what its start command puts above them.
package metamorph.lib

# node_properties are what counts: the lines of the file, and above them what a start command of the user's own sets.
node_properties := object.union(input.config, start_overrides) if {
	input.role == "kafka"
	input.containers.kafka.args[1] != "/etc/metamorph/config/kafka.sh"
} else := input.config

# start_overrides are the properties that a start command of the user's own sets; of several the last counts. The rendered
# command takes none.
start_overrides := {key: values[count(values) - 1] |
	input.role == "kafka"
	text := concat(" ", main.args)
	contains(text, "kafka-server-start")
	found := regex.find_all_string_submatch_n(`--override[=\s]+["']?([\w.-]+)=([^\s"']*)`, text, -1)
	some [_, key, _] in found
	values := [v | some [_, k, v] in found; k == key]
}

# property_field is the field of a property.
property_field(key) := container("args") if start_overrides[key]

property_field(key) := line(key) if not start_overrides[key]

# whole_number is a whole number; undefined for any other text.
whole_number(text) := to_number(text) if regex.match(`^-?[0-9]{1,18}$`, text)

# property_enabled tells whether Kafka takes a property for true.
property_enabled(key) if lower(node_properties[key]) == "true"

# quorum_voters is the size of the KRaft quorum; undefined with ZooKeeper.
quorum_voters := strings.count(node_properties["controller.quorum.voters"], ",") + 1

quorum_voters := whole_number(n) if {
	not node_properties["controller.quorum.voters"]
	n := input.object.metadata.annotations["metamorph.dev/controllers"]
	is_string(n)
}

# config_has tells whether a line stands in the setting config.
config_has(key) if contains(concat("", ["\n", input.settings.config.value]), concat("", ["\n", key, "="]))

# config_with is the setting config with another value for a line of it, or with one more line.
config_with(key, value) := trim_space(regex.replace(input.settings.config.value, this, line_with)) if {
	config_has(key)
	this := sprintf(`(?m)^%s=.*$`, [replace(key, ".", `\.`)])
	line_with := sprintf("%s=%v", [key, value])
}

config_with(key, value) := trim_space(sprintf("%s\n%s=%v", [trim_space(input.settings.config.value), key, value])) if {
	not config_has(key)
}

# property_cure is the part of a result that names what to change: the line of config, where there is one, or else the
# setting that the line follows. Without such a setting ("") it is empty: the line came in by another way.
property_cure(key, _, value) := {"annotation": "config", "fix": config_with(key, value)} if config_has(key)

property_cure(key, setting_key, value) := {"annotation": setting_key, "fix": sprintf("%v", [value])} if {
	setting_key != ""
	not config_has(key)
}

property_cure(key, "", _) := {} if not config_has(key)

# amount_of writes a number with its noun.
amount_of(n, noun) := sprintf("%d %s", [n, noun]) if n == 1

amount_of(n, noun) := sprintf("%d %ss", [n, noun]) if n != 1
