package settings

import (
	"errors"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// RoleKey is the annotation that makes an object Metamorph's.
const RoleKey = "role"

// Role says what the StatefulSet runs.
var Role = setting.Setting[setting.Role]{
	Key: RoleKey, Outside: true,
	Own:     true,
	Doc:     "What the StatefulSet runs. The first pods of a kafka set are controllers and brokers in one, the others brokers.",
	Allowed: "kafka or zookeeper",
	Example: "kafka",
	Rule:    "None: without a role, Metamorph leaves an object alone.",
	Fixed:   "create a new StatefulSet with the other role",
	Parse:   ParseRole,
	Format:  func(r setting.Role) string { return string(r) },
}

// ParseRole reads a role.
func ParseRole(text string) (setting.Role, error) {
	for _, r := range setting.Roles {
		if text == string(r) {
			return r, nil
		}
	}
	if text == "" {
		return "", errEmpty
	}
	if n := Nearest(text, []string{string(setting.Kafka), string(setting.ZooKeeper)}); n != "" {
		return "", errors.New("is not a role; did you mean " + n)
	}
	return "", errors.New("is not a role")
}

// Managed lets go of an object.
var Managed = setting.Setting[bool]{
	Key: "managed", Outside: true,
	Own:     true,
	Doc:     "false: Metamorph lets go. It takes its annotations (but cluster-id) and labels off the object; the pods stay as they are.",
	Allowed: "true or false",
	Example: "false",
	Rule:    "true.",
	Parse:   parseBool,
	Format:  formatBool,
	Default: func(*setting.Resolver) bool { return true },
}

func formatBool(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// Refresh adopts the defaults of the running Metamorph.
var Refresh = setting.Setting[string]{
	Key: "refresh", Outside: true,
	Own:     true,
	Doc:     "Any new value makes Metamorph resolve every setting anew: the defaults of its running version, the Namespace and the profile as they are now.",
	Allowed: "any text of at most 63 characters",
	Example: "2026-12-01",
	Rule:    "Recorded settings stay as they are.",
	Parse: func(text string) (string, error) {
		switch {
		case text == "":
			return "", errEmpty
		case len(text) > 63:
			return "", errors.New("is longer than 63 characters")
		}
		return text, nil
	},
}

// Profile names a set of defaults.
var Profile = setting.Setting[string]{
	Key: "profile", Outside: true,
	Doc:      "A set of defaults: dev, production, or a ConfigMap labelled metamorph.dev/profile: NAME in Metamorph's namespace.",
	Allowed:  "dev, production, or the name of a profile ConfigMap",
	Example:  "production",
	Rule:     "None.",
	Replaces: "values_yaml",
	Parse:    parseName,
}
