# METADATA
# title: a credential stands in clear in the object
# description: >-
#   Whoever may read a StatefulSet, its pods or their history reads it too: every dashboard, every backup, every CI log with
#   kubectl describe in it, and most people with any access to the namespace. From then on it is no secret, and it cannot
#   be changed without a roll.
# custom:
#   code: MM307
#   severity: deny
#   profiles: {dev: warn}
#   fix: >-
#     Put it into a Secret, and refer to that: a variable through valueFrom.secretKeyRef, a file through a volume, Kafka's own
#     passwords through metamorph.dev/sasl-secret. Then change the credential.
#   match: {roles: [kafka, zookeeper]}
package metamorph.policies.credentials_in_clear

import data.metamorph.lib

# No message repeats a value. What counts is what a name, or a text, says of the value behind it, less what is known to be
# none: references, templates, paths, switches.

deny contains {"msg": "the annotation holds a credential", "field": sprintf("metadata.annotations[%s]", [key])} if {
	notes := input.object.metadata.annotations
	is_object(notes)
	some key, value in notes
	startswith(key, "metamorph.dev/") == false
	in_clear(key, value)
}

# Ours hold no values but those of config, which are looked at line by line; and one is rendered that is not ours.
deny contains {
	"msg": "the annotation holds a credential",
	"field": sprintf("spec.template.metadata.annotations[%s]", [key]),
} if {
	notes := input.object.spec.template.metadata.annotations
	is_object(notes)
	some key, value in notes
	startswith(key, "metamorph.dev/") == false
	key != "kubectl.kubernetes.io/default-container"
	in_clear(key, value)
}

deny contains {
	"msg": "the variable holds a credential",
	"field": lib.container_place(container, sprintf("env[%s]", [name])),
} if {
	some container, c in input.containers
	regex.match(not_rendered, concat(",", object.keys(c.env)))
	some name, value in c.env
	startswith(name, "MM_") == false
	in_clear(name, value)
}

# not_rendered finds a name that does not begin with MM_ among many: most containers have only such, and need no closer look.
not_rendered := `(?:^|,)(?:[^M,]|M[^M,]|MM[^_,]|M{1,2}(?:,|$))`

deny contains {"msg": "the command or its arguments hold a credential", "field": lib.container_place(container, "args")} if {
	some container, c in input.containers
	not c.args in rendered
	holds(concat("\n", c.args))
}

rendered := {["bash", sprintf("/etc/metamorph/config/%s.sh", [input.role]), step] | some step in ["prepare", "start"]}

deny contains {"msg": "the line holds a credential", "field": lib.line(key)} if {
	dirty
	some key, value in input.config
	in_clear(key, value)
}

# dirty is a quick look before the lines are taken one by one: it tells whether users wrote anything that may be one, or the
# file has passwords, quoted values or keys besides references to Secrets.
dirty if {
	input.settings.config.value != ""
	suspicious(input.settings.config.value)
}

dirty if strings.count(file, "password=") > strings.count(file, "password=${") + strings.count(file, "password=\"${")

dirty if strings.count(file, "=\"") > strings.count(file, "=\"${") + strings.count(file, "username=\"")

dirty if strings.count(file, "key=") > strings.count(file, "key=${")

file := text if {
	text := input.object.spec.template.metadata.annotations[files[input.role]]
	is_string(text)
}

files := {"kafka": "metamorph.dev/server.properties", "zookeeper": "metamorph.dev/zoo.cfg"}

in_clear(name, value) if {
	is_string(value)
	regex.match(names, name)
	literal(value)
}

in_clear(_, value) if {
	is_string(value)
	holds(value)
}

# names are those of variables, annotations and properties whose values are credentials. NAME_SECRET is none of them: it is
# as often the name of a Secret. What ends in _FILE or _PATH is a file.
names := concat("", [`(?i)(?:`, words, `|(?:^|[^a-z])(?:pass|pwd))$`])

words := concat("|", [
	`passw(?:or)?d|passphrase|token`,
	`(?:client|jwt|shared|session|cookie|signing)[_.-]?secret`,
	`(?:secret|access|api|account|private|signing|encryption|master)[_.-]?key`,
])

# holds tells whether a text has a credential in it. A dashboard or an archive is too long to look through in time.
holds(text) if {
	suspicious(text)
	count(text) < 65536
	some pattern in [assignment, flag]
	some [_, name, a, b, c] in regex.find_all_string_submatch_n(pattern, text, -1)
	regex.match(names, name)
	literal(concat("", [a, b, c]))
}

holds(text) if {
	contains(text, "LoginModule")
	regex.match(`(?i)(?:password|user_[^\s="]+)\s*=\s*["'][^"'$]`, text)
}

holds(text) if {
	contains(text, "://")
	regex.match(`://[^\s/:@"'$]*:[^\s/@"'$<{%(*][^\s/@"']*@`, text)
}

holds(text) if {
	contains(text, "PRIVATE KEY-----")
	regex.match(`PRIVATE KEY-----(?:\\n|\s)*[A-Za-z0-9+/]{16}`, text)
}

# A signed token.
holds(text) if {
	contains(text, "eyJ")
	count(text) < 65536
	regex.match(`\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}`, text)
}

# suspicious is a quick look that spares most texts the patterns.
suspicious(text) if {
	small := lower(text)
	some word in ["passw", "passphrase", "secret", "token", "key", "://", "eyj"]
	contains(small, word)
}

# assignment finds NAME=value, "NAME": "value", and NAME: value to the end of a line; flag finds --NAME value. The names are
# looked at afterwards: a pattern with all of them in it takes five times as long.
assignment := concat("", [
	`(?im)([\w.-]*(?:passw(?:or)?d|passphrase|token|secret|key))`,
	`(?:["']?\s*=\s*["']?`, value, `|["']\s*:\s*["']`, value, `|\s*:[ \t]+["']?`, value, `["']?\s*$)`,
])

flag := concat("", [`(?i)(?:^|\s)--?([\w.-]+)\s+["']?`, value, `()()`])

# A value does not begin with what makes it a reference, a path or an operator.
value := `([^\s"',;&$<{%*/\\(=!~\x60|-][^\s"',;&]{3,})`

# literal tells a value from a reference to one, from a file's path, from a switch and from a short number.
literal(text) if {
	trimmed := trim_space(text)
	count(trimmed) > 3
	not regex.match(reference, trimmed)
	not lower(trimmed) in {"true", "false", "none", "null", "enabled", "disabled", "required", "optional", "redacted"}
}

# The schemes are those of programs that look secrets up: HashiCorp's and Bank-Vaults' Vault, 1Password, helm-secrets, the
# clouds' secret managers.
reference := concat("|", [
	`^[$%<*/]|^\.{1,2}/|^[0-9.]{1,5}[a-z]{0,2}$`,
	`^(?:file|vault|arn|op|sm|aws-sm|gcp-sm):|^(?:secret|kv)[:/]|^ref\+`,
	`\{\{|\$[{(]`,
])
