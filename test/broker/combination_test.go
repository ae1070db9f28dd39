package broker_test

import (
	"strings"
	"testing"
)

// combination is one way in which users may run Kafka.
type combination struct {
	mode    string
	nodes   int
	sasl    string
	tls     bool
	config  bool
	metrics bool
}

// factors are the values of a combination's fields, as text. With ZooKeeper, a combination of 1 node is a broker and a
// ZooKeeper server, of 3 three brokers and one server, and of 5 three of each.
var factors = []struct {
	name   string
	values []string
}{
	{"mode", []string{"kraft-4.3", "kraft-3.9", "zookeeper-3.9"}},
	{"nodes", []string{"1", "3", "5"}},
	{"sasl", []string{"scram-sha-512", "scram-sha-256", "plain", "none"}},
	{"tls", []string{"plaintext", "tls"}},
	{"config", []string{"rendered", "config"}},
	{"metrics", []string{"silent", "metrics"}},
}

// choice has for each factor the index of its value.
type choice [6]int

func (c choice) combination() combination {
	return combination{
		mode:    factors[0].values[c[0]],
		nodes:   []int{1, 3, 5}[c[1]],
		sasl:    factors[2].values[c[2]],
		tls:     c[3] == 1,
		config:  c[4] == 1,
		metrics: c[5] == 1,
	}
}

// String is the name of the combination's subtest.
func (c choice) String() string {
	words := make([]string, len(c))
	for i, v := range c {
		words[i] = factors[i].values[v]
	}
	return strings.Join(words, ",")
}

// all are the combinations of all values.
func all() []choice {
	out := []choice{{}}
	for i := range factors {
		var next []choice
		for _, c := range out {
			for v := range factors[i].values {
				c[i] = v
				next = append(next, c)
			}
		}
		out = next
	}
	return out
}

// dozen are combinations in which any two values meet: most faults need no more than two. Fewer cannot do, because there
// are twelve pairs of mode and mechanism.
var dozen = []choice{
	{0, 0, 0, 1, 1, 0},
	{0, 1, 1, 0, 0, 1},
	{0, 2, 2, 1, 0, 1},
	{0, 0, 3, 0, 1, 1},
	{1, 1, 0, 0, 0, 0},
	{1, 2, 1, 1, 1, 0},
	{1, 0, 2, 0, 0, 1},
	{1, 1, 3, 1, 0, 0},
	{2, 2, 0, 0, 1, 1},
	{2, 0, 1, 0, 0, 0},
	{2, 1, 2, 1, 1, 0},
	{2, 2, 3, 0, 0, 1},
}

func TestAnyTwoValuesMeet(t *testing.T) {
	for i, f := range factors {
		for j, g := range factors[:i] {
			for v := range f.values {
				for w := range g.values {
					met := false
					for _, c := range dozen {
						met = met || c[i] == v && c[j] == w
					}
					if !met {
						t.Errorf("%s %s never meets %s %s", f.name, f.values[v], g.name, g.values[w])
					}
				}
			}
		}
	}
}
