package catalogue

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// Nearest is the key that was probably meant by a name that is not one; "" when nothing is near. It never suggests an
// internal key.
func (c *Catalogue) Nearest(name string) string {
	if c == nil {
		return ""
	}
	for _, guess := range []func(string) string{c.respelt, c.aliased, c.unprefixed} {
		if known := guess(name); known != "" {
			return known
		}
	}
	for _, f := range c.families {
		if f.nearest == nil {
			continue
		}
		if known := f.nearest(c, name); known != "" {
			return known
		}
	}
	return nearestOf(name, c.names(nil))
}

// respelt reads the spelling of container images (KAFKA_NUM_PARTITIONS) and of system properties (zookeeper.snapCount).
func (c *Catalogue) respelt(name string) string {
	folded := fold(strings.TrimPrefix(name, "zookeeper."))
	for _, known := range c.names(nil) {
		if f := fold(known); f == folded || "kafka."+f == folded {
			return known
		}
	}
	return ""
}

func fold(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", ".")
}

// aliased finds the key that ZooKeeper reads behind the one it documents.
func (c *Catalogue) aliased(name string) string {
	for _, key := range c.Keys {
		if key.Alias != "" && key.Alias == name {
			return key.Name
		}
	}
	return ""
}

// topicNames are a topic's settings, where the broker's default for them has neither the same name nor log. before it.
var topicNames = map[string]string{
	"max.message.bytes":         "message.max.bytes",
	"index.interval.bytes":      "log.index.interval.bytes",
	"segment.index.bytes":       "log.index.size.max.bytes",
	"segment.ms":                "log.roll.ms",
	"segment.jitter.ms":         "log.roll.jitter.ms",
	"min.cleanable.dirty.ratio": "log.cleaner.min.cleanable.ratio",
	"delete.retention.ms":       "log.cleaner.delete.retention.ms",
	"file.delete.delay.ms":      "log.segment.delete.delay.ms",
	"flush.messages":            "log.flush.interval.messages",
	"flush.ms":                  "log.flush.interval.ms",
}

// unprefixed finds the broker's default for a topic's setting: retention.ms is log.retention.ms, replication.factor is
// default.replication.factor.
func (c *Catalogue) unprefixed(name string) string {
	if c.Product != kafka {
		return ""
	}
	for _, known := range []string{topicNames[name], "log." + name, "log.cleaner." + name, "default." + name} {
		if key, ok := c.byName[known]; ok && !key.Internal {
			return known
		}
	}
	return ""
}

// names are the keys that may be suggested, families apart.
func (c *Catalogue) names(want func(string) bool) []string {
	var names []string
	for _, key := range c.Keys {
		if key.Internal || strings.Contains(key.Name, "<") || want != nil && !want(key.Name) {
			continue
		}
		names = append(names, key.Name)
	}
	if want == nil && c.Product == kafka {
		for _, p := range plugins {
			if c.knows(p.name) {
				names = append(names, p.name)
			}
		}
		if !c.has("config.providers") {
			names = append(names, "config.providers")
		}
	}
	return names
}

// nearestOf allows a quarter of the name to differ, at least two characters and at most six: a slip, not another word.
func nearestOf(name string, names []string) string {
	best, most := "", min(max(2, len(name)/4), 6)
	name = strings.ToLower(name)
	for _, known := range names {
		if len(known) > len(name)+most || len(name) > len(known)+most {
			continue
		}
		if d := levenshtein.ComputeDistance(name, strings.ToLower(known)); d <= most {
			best, most = known, d-1
		}
	}
	return best
}
