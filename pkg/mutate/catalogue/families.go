package catalogue

import (
	"slices"
	"strings"
)

// A family is a set of keys that no list can hold, because a part of the name is the user's.
type family struct {
	// lookup tells what a member means; false when the name is no member.
	lookup func(c *Catalogue, name string) (Key, bool)
	// nearest corrects a name that was probably meant for this family; "" when it was not, or nothing is near.
	nearest func(c *Catalogue, name string) string
}

// numbered is a family whose names are a prefix and one word: server.1, authProvider.sasl.
func numbered(prefix string, key Key) family {
	return family{
		lookup: func(_ *Catalogue, name string) (Key, bool) {
			word, ok := strings.CutPrefix(name, prefix)
			return key, ok && word != ""
		},
	}
}

var kafkaFamilies = []family{
	{lookup: listenerKey, nearest: nearestListenerKey},
	{lookup: mechanismKey},
	{lookup: providerKey},
	{lookup: pluginKey},
}

// listenerKey is listener.name.LISTENER.[MECHANISM.]KEY: an override for one listener. Kafka looks such keys up by the
// listener's name in lower case, so any other spelling is never read.
func listenerKey(c *Catalogue, name string) (Key, bool) {
	_, rest, ok := splitListener(name)
	if !ok {
		return Key{}, false
	}
	if perListener(rest) {
		return c.byKey(rest)
	}
	return mechanismKey(c, rest)
}

// splitListener takes listener.name.LISTENER.KEY apart; the prefix ends with the dot.
func splitListener(name string) (prefix, key string, ok bool) {
	rest, ok := strings.CutPrefix(name, "listener.name.")
	if !ok {
		return "", "", false
	}
	listener, key, ok := strings.Cut(rest, ".")
	if !ok || listener == "" || key == "" || listener != strings.ToLower(listener) {
		return "", "", false
	}
	return "listener.name." + listener + ".", key, true
}

// perListener tells which keys a listener may override: Kafka's ChannelBuilders and SocketServer read these.
func perListener(key string) bool {
	return strings.HasPrefix(key, "ssl.") || strings.HasPrefix(key, "sasl.") || slices.Contains([]string{
		"connections.max.reauth.ms", "max.connection.creation.rate", "max.connections", "num.network.threads", "principal.builder.class",
	}, key)
}

func nearestListenerKey(c *Catalogue, name string) string {
	if !strings.HasPrefix(strings.ToLower(name), "listener.name.") {
		return ""
	}
	// The listener in capitals, as it stands in listeners, is the usual mistake.
	if listener, rest, ok := strings.Cut(name[len("listener.name."):], "."); ok {
		if lower := "listener.name." + strings.ToLower(listener) + "." + rest; c.knows(lower) {
			return lower
		}
	}
	prefix, rest, ok := splitListener(name)
	if !ok {
		return ""
	}
	if first, tail, ok := strings.Cut(rest, "."); ok && slices.Contains(mechanisms, strings.ToLower(first)) {
		prefix, rest = prefix+strings.ToLower(first)+".", tail
	}
	if best := prefix + nearestOf(rest, c.names(perListener)); c.knows(best) {
		return best
	}
	return ""
}

// Login and callbacks are looked up by mechanism, in lower case.
var (
	mechanisms    = []string{"gssapi", "oauthbearer", "plain", "scram-sha-256", "scram-sha-512"}
	mechanismKeys = []string{
		"connections.max.reauth.ms", "sasl.jaas.config", "sasl.login.callback.handler.class", "sasl.login.class", "sasl.server.callback.handler.class",
	}
)

// mechanismKey is MECHANISM.KEY, for what differs by SASL mechanism.
func mechanismKey(c *Catalogue, name string) (Key, bool) {
	mechanism, key, ok := strings.Cut(name, ".")
	if !ok || !slices.Contains(mechanisms, mechanism) || !slices.Contains(mechanismKeys, key) {
		return Key{}, false
	}
	return c.byKey(key)
}

// providerKey is config.providers and what configures each of them. Kafka has always read these, but lists the first
// in its definition from 4.2 on only.
func providerKey(_ *Catalogue, name string) (Key, bool) {
	if name == "config.providers" {
		return Key{Type: "LIST", Dynamic: ReadOnly}, true
	}
	rest, ok := strings.CutPrefix(name, "config.providers.")
	if !ok {
		return Key{}, false
	}
	provider, key, _ := strings.Cut(rest, ".")
	param, isParam := strings.CutPrefix(key, "param.")
	switch {
	case provider == "":
		return Key{}, false
	case key == "class":
		return Key{Type: "CLASS", Dynamic: ReadOnly}, true
	case isParam && param != "":
		return Key{Type: "STRING", Dynamic: ReadOnly}, true
	}
	return Key{}, false
}

// plugins are the keys and, with a dot at the end, the prefixes that belong to what can be plugged into a broker, and
// which the broker itself hands on unread.
var plugins = []struct {
	name, kind string
	// only limits the entry to versions that have this key, and so the plugin.
	only string
}{
	// StandardAuthorizer and AclAuthorizer.
	{name: "super.users", kind: "STRING"},
	{name: "allow.everyone.if.no.acl.found", kind: "BOOLEAN"},
	{name: "authorizer.zookeeper.url", kind: "STRING", only: "zookeeper.connect"},
	{name: "authorizer.zookeeper.connection.timeout.ms", kind: "INT", only: "zookeeper.connect"},
	{name: "authorizer.zookeeper.session.timeout.ms", kind: "INT", only: "zookeeper.connect"},
	{name: "authorizer.zookeeper.max.in.flight.requests", kind: "INT", only: "zookeeper.connect"},
	// JmxReporter, the default of metric.reporters; and the context that reporters are given.
	{name: "metrics.jmx.include", kind: "STRING"},
	{name: "metrics.jmx.exclude", kind: "STRING"},
	{name: "metrics.context.", kind: "STRING"},
	{name: "kafka.csv.metrics.", kind: "STRING"},
	// Tiered storage: the default of remote.log.storage.manager.impl.prefix and its sibling.
	{name: "rsm.config.", kind: "STRING"},
	{name: "rlmm.config.", kind: "STRING"},
	// Well-known plugins from elsewhere.
	{name: "client.quota.callback.static.", kind: "STRING"},
	{name: "confluent.", kind: "STRING"},
	{name: "cruise.control.metrics.", kind: "STRING"},
	{name: "oauth.", kind: "STRING"},
	{name: "opa.authorizer.", kind: "STRING"},
	{name: "prometheus.metrics.reporter.", kind: "STRING"},
	{name: "ranger.", kind: "STRING"},
	{name: "strimzi.", kind: "STRING"},
}

func pluginKey(c *Catalogue, name string) (Key, bool) {
	for _, p := range plugins {
		if p.only != "" && !c.has(p.only) {
			continue
		}
		isPrefix := strings.HasSuffix(p.name, ".")
		if name == p.name && !isPrefix || isPrefix && strings.HasPrefix(name, p.name) && name != p.name {
			return Key{Type: p.kind, Dynamic: ReadOnly}, true
		}
	}
	return Key{}, false
}

func (c *Catalogue) byKey(name string) (Key, bool) {
	key, ok := c.byName[name]
	return key, ok
}

func (c *Catalogue) has(name string) bool {
	_, ok := c.byName[name]
	return ok
}

func (c *Catalogue) knows(name string) bool {
	_, ok := c.Lookup(name)
	return ok
}
