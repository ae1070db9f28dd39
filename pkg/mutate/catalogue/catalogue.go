// Package catalogue knows every configuration key of Kafka and ZooKeeper, version by version: its type, range, default,
// and whether it may change while a broker runs. It judges lines that a user adds to server.properties or zoo.cfg.
//
// Both products accept a misspelt key without a word: Kafka warns in its log, ZooKeeper turns it into a system property
// that nobody reads. So the place to refuse it is before the pod exists.
//
// The Kafka catalogues are exported from the published jars by hack/catalogue/export.sh. The ZooKeeper ones are written
// by hand, because ZooKeeper has no such definition: from QuorumPeerConfig, the system properties that the server's
// classes read, and the administrator's guide.
package catalogue

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed *.json
var files embed.FS

// Key is one configuration key.
type Key struct {
	// Name as it is written in the file. In a family, the part that varies is in angle brackets: server.<id>.
	Name string `json:"name"`
	// Type as Kafka's ConfigDef names it: BOOLEAN, SHORT, INT, LONG, DOUBLE, LIST, STRING, PASSWORD or CLASS.
	Type string `json:"type"`
	// Default is nil when there is none, or when it depends on the machine.
	Default *string `json:"default"`
	// Required tells that the server does not start without it.
	Required bool `json:"required"`
	// Min and Max are inclusive.
	Min *float64 `json:"min"`
	Max *float64 `json:"max"`
	// Valid are the only values allowed; for a list, the only elements.
	Valid []string `json:"valid"`
	// AnyCase tells that Valid is compared without regard to case.
	AnyCase bool `json:"anyCase"`
	// NonEmpty tells that an empty value is refused.
	NonEmpty bool `json:"nonEmpty"`
	// Unique tells that a list's elements must differ, and none be empty; Kafka asks this from 4.2 on.
	Unique bool `json:"unique"`
	// Importance as Kafka ranks it: high, medium or low. ZooKeeper does not say.
	Importance string `json:"importance"`
	// Sensitive values are never repeated in a message.
	Sensitive bool `json:"sensitive"`
	// Internal keys work but are undocumented, and may go without notice.
	Internal bool `json:"internal"`
	// Dynamic is how Kafka may change it at run time: read-only (not at all), per-broker or cluster-wide.
	Dynamic string `json:"dynamic"`
	// Alias is the name under which ZooKeeper's guide documents the key, where writing that name has no effect.
	Alias string `json:"alias"`
}

// ReadOnly is the Dynamic of a key that needs a restart to change.
const ReadOnly = "read-only"

// Catalogue is what one minor version of one product understands. A nil catalogue knows nothing and refuses nothing, so
// that a version newer than Metamorph can still be run.
type Catalogue struct {
	// Product is kafka or zookeeper.
	Product string `json:"product"`
	// Version is the newest patch version known when the catalogue was made, and the one it was made from.
	Version string `json:"version"`
	// Source tells where the keys come from.
	Source string `json:"source"`
	// Keys, sorted by name, families included.
	Keys []Key `json:"keys"`

	byName   map[string]Key
	families []family
}

const (
	kafka     = "kafka"
	zookeeper = "zookeeper"
)

// Kafka returns the catalogue of a minor version such as "4.3".
func Kafka(minor string) (*Catalogue, bool) { return find(kafka, minor) }

// ZooKeeper returns the catalogue of a minor version such as "3.9".
func ZooKeeper(minor string) (*Catalogue, bool) { return find(zookeeper, minor) }

// KafkaMinors are the minor versions of Kafka that have a catalogue, the newest last.
func KafkaMinors() []string { return minors(kafka) }

// ZooKeeperMinors are the minor versions of ZooKeeper that have a catalogue, the newest last.
func ZooKeeperMinors() []string { return minors(zookeeper) }

// loaders parse each file when it is first asked for, and once.
var loaders = sync.OnceValue(func() map[string]func() *Catalogue {
	all := map[string]func() *Catalogue{}
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		panic(err) // The pattern is a constant.
	}
	for _, name := range names {
		all[strings.TrimSuffix(name, ".json")] = sync.OnceValue(func() *Catalogue { return load(name) })
	}
	return all
})

func find(product, minor string) (*Catalogue, bool) {
	loader, ok := loaders()[product+"-"+minor]
	if !ok {
		return nil, false
	}
	return loader(), true
}

// load panics on a file it cannot read: the files are part of the binary, and a test reads them all.
func load(file string) *Catalogue {
	data, err := files.ReadFile(file)
	if err != nil {
		panic(err)
	}
	c := &Catalogue{byName: map[string]Key{}}
	if err := json.Unmarshal(data, c); err != nil {
		panic(fmt.Errorf("%s: %w", file, err))
	}
	for i := range c.Keys {
		key := &c.Keys[i]
		if key.Dynamic == "" {
			key.Dynamic = ReadOnly
		}
		if prefix, _, varies := strings.Cut(key.Name, "<"); varies {
			c.families = append(c.families, numbered(prefix, *key))
			continue
		}
		c.byName[key.Name] = *key
	}
	if c.Product == kafka {
		c.families = append(c.families, kafkaFamilies...)
	}
	return c
}

func minors(product string) []string {
	var found []string
	for name := range maps.Keys(loaders()) {
		if minor, ok := strings.CutPrefix(name, product+"-"); ok {
			found = append(found, minor)
		}
	}
	slices.SortFunc(found, compareMinors)
	return found
}

// compareMinors orders by number: 4.10 comes after 4.9.
func compareMinors(a, b string) int {
	return slices.Compare(parts(a), parts(b))
}

func parts(version string) []int {
	var numbers []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			panic(fmt.Errorf("catalogue %q: %w", version, err))
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// Lookup finds a key by the name that stands in the file, members of families included.
func (c *Catalogue) Lookup(name string) (Key, bool) {
	if c == nil {
		return Key{}, false
	}
	if key, ok := c.byName[name]; ok {
		return key, true
	}
	for _, f := range c.families {
		if key, ok := f.lookup(c, name); ok {
			key.Name = name
			return key, true
		}
	}
	return Key{}, false
}
