package catalogue

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustKafka(t testing.TB, minor string) *Catalogue {
	t.Helper()
	c, ok := Kafka(minor)
	if !ok {
		t.Fatalf("no catalogue of Kafka %s", minor)
	}
	return c
}

func mustZooKeeper(t testing.TB, minor string) *Catalogue {
	t.Helper()
	c, ok := ZooKeeper(minor)
	if !ok {
		t.Fatalf("no catalogue of ZooKeeper %s", minor)
	}
	return c
}

func every(t testing.TB) map[string]*Catalogue {
	t.Helper()
	all := map[string]*Catalogue{}
	for _, minor := range KafkaMinors() {
		all["kafka-"+minor] = mustKafka(t, minor)
	}
	for _, minor := range ZooKeeperMinors() {
		all["zookeeper-"+minor] = mustZooKeeper(t, minor)
	}
	return all
}

func TestMinors(t *testing.T) {
	if diff := cmp.Diff([]string{"3.9", "4.0", "4.1", "4.2", "4.3"}, KafkaMinors()); diff != "" {
		t.Errorf("Kafka (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"3.8", "3.9"}, ZooKeeperMinors()); diff != "" {
		t.Errorf("ZooKeeper (-want +got):\n%s", diff)
	}
	if compareMinors("4.10", "4.9") <= 0 {
		t.Error("4.10 must come after 4.9")
	}
	for _, minor := range []string{"", "2.8", "4", "4.3.1", "../x"} {
		if _, ok := Kafka(minor); ok {
			t.Errorf("found a catalogue of Kafka %q", minor)
		}
	}
}

// TestEveryCatalogue holds what any catalogue must fulfil, also one that a later version adds.
func TestEveryCatalogue(t *testing.T) {
	types := []string{"BOOLEAN", "SHORT", "INT", "LONG", "DOUBLE", "LIST", "STRING", "PASSWORD", "CLASS"}
	modes := []string{ReadOnly, "per-broker", "cluster-wide"}
	for file, c := range every(t) {
		t.Run(file, func(t *testing.T) {
			product, minor, _ := strings.Cut(file, "-")
			if c.Product != product || !strings.HasPrefix(c.Version, minor+".") || c.Source == "" {
				t.Errorf("is of %s %s, from %q", c.Product, c.Version, c.Source)
			}
			if len(c.Keys) < 200 {
				t.Errorf("has only %d keys", len(c.Keys))
			}
			if !slices.IsSortedFunc(c.Keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) }) {
				t.Error("is not sorted")
			}
			seen := map[string]bool{}
			for _, key := range c.Keys {
				if seen[key.Name] {
					t.Errorf("%s stands there twice", key.Name)
				}
				seen[key.Name] = true
				if !slices.Contains(types, key.Type) || !slices.Contains(modes, key.Dynamic) {
					t.Errorf("%s: type %q, dynamic %q", key.Name, key.Type, key.Dynamic)
				}
				if key.Type == "PASSWORD" && !key.Sensitive {
					t.Errorf("%s is a password, but not sensitive", key.Name)
				}
				if key.Min != nil && key.Max != nil && *key.Min > *key.Max {
					t.Errorf("%s: nothing lies between %v and %v", key.Name, *key.Min, *key.Max)
				}
				// The product's own default is the one value it surely takes.
				if key.Default != nil && !strings.Contains(key.Name, "<") {
					if err := c.Check(key.Name, *key.Default); err != nil {
						t.Errorf("its own default is refused: %v", err)
					}
				}
				if example := key.example(); example != "" && !key.takes(example) {
					t.Errorf("%s: its own example %q is refused", key.Name, example)
				}
				if key.Alias != "" && seen[key.Alias] {
					t.Errorf("%s: alias %s is a key itself", key.Name, key.Alias)
				}
			}
		})
	}
}

// TestRenderedKeys names what Metamorph itself writes: every version must know it.
func TestRenderedKeys(t *testing.T) {
	always := []string{
		"node.id", "process.roles", "listeners", "advertised.listeners", "listener.security.protocol.map", "inter.broker.listener.name",
		"controller.quorum.voters", "controller.listener.names", "log.dirs", "num.partitions", "default.replication.factor", "min.insync.replicas",
		"offsets.topic.replication.factor", "transaction.state.log.replication.factor", "transaction.state.log.min.isr", "log.retention.hours",
		"log.segment.bytes", "auto.create.topics.enable", "unclean.leader.election.enable", "num.io.threads", "num.network.threads",
		"num.replica.fetchers", "num.recovery.threads.per.data.dir", "initial.broker.registration.timeout.ms", "broker.rack",
		"config.providers", "config.providers.env.class", "config.providers.dir.param.allowed.paths", "authorizer.class.name", "super.users",
		"allow.everyone.if.no.acl.found", "sasl.mechanism.controller.protocol", "sasl.mechanism.inter.broker.protocol",
		"listener.name.client.sasl.enabled.mechanisms", "listener.name.internal.scram-sha-512.sasl.jaas.config",
		"listener.name.controller.plain.sasl.jaas.config", "ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.truststore.certificates",
		"ssl.truststore.type",
	}
	for _, minor := range KafkaMinors() {
		c := mustKafka(t, minor)
		for _, name := range always {
			if key, ok := c.Lookup(name); !ok || key.Name != name {
				t.Errorf("Kafka %s: Lookup(%s) = %q, %v", minor, name, key.Name, ok)
			}
		}
	}
	for _, minor := range ZooKeeperMinors() {
		c := mustZooKeeper(t, minor)
		for _, name := range []string{
			"tickTime", "initLimit", "syncLimit", "dataDir", "clientPort", "secureClientPort", "autopurge.purgeInterval", "autopurge.snapRetainCount",
			"4lw.commands.whitelist", "admin.enableServer", "quorumListenOnAllIPs", "authProvider.sasl", "authProvider.1",
			"sessionRequireClientSASLAuth", "quorum.auth.enableSasl", "quorum.auth.learner.saslLoginContext", "server.1", "sslQuorum", "fips-mode",
			"serverCnxnFactory", "ssl.keyStore.location", "ssl.quorum.trustStore.type", "metricsProvider.className", "metricsProvider.httpPort",
			"electionPortBindRetry",
		} {
			if !c.knows(name) {
				t.Errorf("ZooKeeper %s does not know %s", minor, name)
			}
		}
	}
}

func TestKeysByVersion(t *testing.T) {
	tests := map[string][]string{
		"zookeeper.connect":                                {"3.9"},
		"zookeeper.ssl.truststore.type":                    {"3.9"},
		"authorizer.zookeeper.url":                         {"3.9"},
		"inter.broker.protocol.version":                    {"3.9"},
		"share.coordinator.state.topic.replication.factor": {"4.0", "4.1", "4.2", "4.3"},
		"group.coordinator.new.enable":                     {"3.9", "4.0"},
		"cordoned.log.dirs":                                {"4.3"},
	}
	for name, want := range tests {
		var got []string
		for _, minor := range KafkaMinors() {
			if mustKafka(t, minor).knows(name) {
				got = append(got, minor)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestLookup(t *testing.T) {
	c := mustKafka(t, "4.3")

	key, ok := c.Lookup("background.threads")
	if !ok || key.Type != "INT" || *key.Default != "10" || *key.Min != 1 || key.Dynamic != "cluster-wide" {
		t.Errorf("background.threads: %+v, %v", key, ok)
	}
	if key, _ := c.Lookup("listener.name.client.ssl.keystore.key"); !key.Sensitive || key.Type != "PASSWORD" {
		t.Errorf("an override for a listener must be like the key it overrides: %+v", key)
	}
	for _, name := range []string{
		"", ".", "listener.name.", "listener.name.client", "listener.name.client.", "listener.name..ssl.protocol", "listener.name.client.num.partitions",
		"listener.name.CLIENT.ssl.protocol", "listener.name.client.kerberos.sasl.jaas.config", "config.providers.", "config.providers.env",
		"config.providers.env.param.", "config.providers..class", "rsm.config.", "plain.ssl.protocol", "retention.ms",
	} {
		if key, ok := c.Lookup(name); ok {
			t.Errorf("found %q: %+v", name, key)
		}
	}
	zk := mustZooKeeper(t, "3.9")
	for _, name := range []string{"server.", "server.<id>", "serverr.1", "authProvider."} {
		if key, ok := zk.Lookup(name); ok && name != "server.<id>" {
			t.Errorf("found %q: %+v", name, key)
		}
	}
}

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		line string
		want string // What is allowed; "ok" when the line is right.
	}{
		"whole number":                             {"num.partitions=3", "ok"},
		"whole number with spaces and sign":        {"num.partitions= +3 ", "ok"},
		"not a number":                             {"num.partitions=three", "1 to 2147483647"},
		"empty number":                             {"num.partitions=", "1 to 2147483647"},
		"below the range":                          {"num.partitions=0", "1 to 2147483647"},
		"beyond 32 bits":                           {"num.partitions=2147483648", "1 to 2147483647"},
		"64 bits":                                  {"log.retention.bytes=9223372036854775807", "ok"},
		"beyond 64 bits":                           {"log.retention.bytes=9223372036854775808", ""},
		"a few numbers only":                       {"compression.gzip.level=0", "-1, 1, 2, 3, 4, 5, 6, 7, 8, 9"},
		"fraction":                                 {"log.cleaner.min.cleanable.ratio=0.7", "ok"},
		"fraction as Java writes it":               {"log.cleaner.min.cleanable.ratio=0.7d", "ok"},
		"fraction beyond its range":                {"log.cleaner.min.cleanable.ratio=1.1", "0 to 1"},
		"boolean in capitals":                      {"auto.create.topics.enable=TRUE", "ok"},
		"boolean of another language":              {"auto.create.topics.enable=yes", "true or false"},
		"one of some words":                        {"compression.type=zstd", "ok"},
		"the right word in capitals":               {"compression.type=ZSTD", "gzip, lz4, producer, snappy, uncompressed, zstd"},
		"list of words":                            {"log.cleanup.policy=compact, delete", "ok"},
		"list with a wrong word":                   {"log.cleanup.policy=compact,remove", "compact, delete; none of them twice"},
		"list with a word twice":                   {"log.cleanup.policy=delete,delete", "compact, delete; none of them twice"},
		"list with a gap":                          {"metric.reporters=a.B,,c.D", "elements that are not empty, none of them twice"},
		"empty list":                               {"metric.reporters=", "ok"},
		"empty list where one is needed":           {"group.consumer.assignors=", "at least one element, none empty and none twice"},
		"class":                                    {"create.topic.policy.class.name=org.example.Policy$Strict", "ok"},
		"not a class":                              {"create.topic.policy.class.name=org.example.", ""},
		"any text":                                 {"broker.rack=zone a", "ok"},
		"reference of a provider":                  {"num.partitions=${env:MM_PARTITIONS}", "ok"},
		"reference within text":                    {"num.io.threads=1${env:X}", "ok"},
		"override for a listener":                  {"listener.name.client.max.connections=many", "0 to 2147483647"},
		"override for a listener and mechanism":    {"listener.name.client.oauthbearer.connections.max.reauth.ms=1h", ""},
		"value of an authorizer":                   {"allow.everyone.if.no.acl.found=1", "true or false"},
		"whatever a plugin of others is told":      {"cruise.control.metrics.reporter.kubernetes.mode=x", "ok"},
		"internal keys are known, if not proposed": {"unstable.api.versions.enable=true", "ok"},
	}
	c := mustKafka(t, "4.3")
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { checkLine(t, c, tc.line, tc.want) })
	}
}

func TestCheckZooKeeper(t *testing.T) {
	tests := map[string]struct{ line, want string }{
		"number":                        {"tickTime=2000", "ok"},
		"number too small":              {"autopurge.snapRetainCount=2", "3 to 2147483647"},
		"server":                        {"server.1=a:2888:3888;2181", "ok"},
		"server without an address":     {"server.1=", "anything but nothing"},
		"words in any case":             {"peerType=Observer", "ok"},
		"nothing is a value too":        {"snapshot.compression.method=", "ok"},
		"neither nothing nor gz":        {"snapshot.compression.method=lz4", "nothing, gz, snappy"},
		"yes or no, not a boolean":      {"forceSync=false", "no, yes"},
		"ZooKeeper has no providers":    {"tickTime=${env:TICK}", "1 to 2147483647"},
		"a class of one's own provider": {"authProvider.mine=org.example.Provider", "ok"},
	}
	c := mustZooKeeper(t, "3.9")
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { checkLine(t, c, tc.line, tc.want) })
	}
}

func checkLine(t *testing.T, c *Catalogue, line, want string) {
	t.Helper()
	name, value, _ := strings.Cut(line, "=")
	err := c.Check(name, value)
	if err == nil {
		if want != "ok" {
			t.Errorf("%s passed, want allowed %q", line, want)
		}
		return
	}
	var bad *BadValue
	if !errors.As(err, &bad) {
		t.Fatalf("%s: %v", line, err)
	}
	if bad.Allowed != want || bad.Name != name || bad.Value != value || bad.Type == "" {
		t.Errorf("%s: %+v, want allowed %q", line, *bad, want)
	}
}

// TestNoSecretInError: an error may be shown to people who may not see the value.
func TestNoSecretInError(t *testing.T) {
	const secret = "hunter2"
	for file, c := range every(t) {
		for _, key := range c.Keys {
			if !key.Sensitive {
				continue
			}
			for _, name := range []string{key.Name, key.Name + "x"} {
				if err := c.Check(name, secret); err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%s: %v", file, err)
				}
			}
		}
	}
}

func TestNearest(t *testing.T) {
	tests := map[string]struct {
		of, name, want string
	}{
		"a letter missing":                        {"kafka", "log.retention.hour", "log.retention.hours"},
		"a letter too many":                       {"kafka", "delete.topics.enable", "delete.topic.enable"},
		"a topic's setting":                       {"kafka", "retention.ms", "log.retention.ms"},
		"a topic's setting of another name":       {"kafka", "max.message.bytes", "message.max.bytes"},
		"a topic's setting with a default":        {"kafka", "replication.factor", "default.replication.factor"},
		"the spelling of container images":        {"kafka", "KAFKA_NUM_PARTITIONS", "num.partitions"},
		"underscores":                             {"kafka", "num_io_threads", "num.io.threads"},
		"a plugin's key":                          {"kafka", "super.user", "super.users"},
		"a listener in capitals":                  {"kafka", "listener.name.CLIENT.sasl.jaas.config", "listener.name.client.sasl.jaas.config"},
		"a listener's key misspelt":               {"kafka", "listener.name.client.ssl.keystore.typ", "listener.name.client.ssl.keystore.type"},
		"a mechanism's key misspelt":              {"kafka", "listener.name.client.PLAIN.sasl.jaas.confg", "listener.name.client.plain.sasl.jaas.config"},
		"gone, and nothing took its place":        {"kafka", "zookeeper.connect", ""},
		"nothing like it":                         {"kafka", "foo", ""},
		"nothing at all":                          {"kafka", "", ""},
		"internal keys are not proposed":          {"kafka", "unstable.api.version.enable", ""},
		"the other case":                          {"zookeeper", "ticktime", "tickTime"},
		"what the guide calls it":                 {"zookeeper", "connectionMaxTokens", "connection_throttle_tokens"},
		"the system property":                     {"zookeeper", "zookeeper.snapCount", "snapCount"},
		"a quorum's login context, as often seen": {"zookeeper", "quorum.auth.learner.loginContext", "quorum.auth.learner.saslLoginContext"},
	}
	catalogues := map[string]*Catalogue{"kafka": mustKafka(t, "4.3"), "zookeeper": mustZooKeeper(t, "3.9")}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var unknown *Unknown
			if err := catalogues[tc.of].Check(tc.name, "x"); !errors.As(err, &unknown) || unknown.Nearest != tc.want {
				t.Errorf("Check(%s) = %v, want %q as the nearest", tc.name, err, tc.want)
			}
		})
	}
	if got := mustKafka(t, "3.9").Nearest("config.provider"); got != "config.providers" {
		t.Errorf("config.provider on 3.9: %q", got)
	}
}

// TestNilCatalogue: a version newer than Metamorph has none, and must run all the same.
func TestNilCatalogue(t *testing.T) {
	c, ok := Kafka("9.9")
	if ok {
		t.Fatal("found Kafka 9.9")
	}
	if err := c.Check("num.partitions", "x"); err != nil {
		t.Error(err)
	}
	if got := c.Nearest("num.partition"); got != "" {
		t.Errorf("Nearest: %q", got)
	}
	if _, ok := c.Lookup("num.partitions"); ok {
		t.Error("a nil catalogue found a key")
	}
}

func FuzzCheck(f *testing.F) {
	for _, line := range []string{
		"num.partitions=3", "listener.name.client.plain.sasl.jaas.config=x required;", "config.providers.env.param.x=${env:X}", "server.1=a:1:2",
		"=", "listener.name..=", "log.cleaner.min.cleanable.ratio=0.5f", "log.cleanup.policy=,", "İ.ı=ſ", "KAFKA_\x00=1",
	} {
		name, value, _ := strings.Cut(line, "=")
		f.Add(name, value)
	}
	all := every(f)
	f.Fuzz(func(t *testing.T, name, value string) {
		for file, c := range all {
			err := c.Check(name, value)
			_, known := c.Lookup(name)
			var unknown *Unknown
			var bad *BadValue
			switch {
			case err == nil && !known:
				t.Errorf("%s: unknown %q passed", file, name)
			case errors.As(err, &unknown):
				if known || unknown.Nearest != "" && !c.knows(unknown.Nearest) {
					t.Errorf("%s: %q: known %v, nearest %q", file, name, known, unknown.Nearest)
				}
			case errors.As(err, &bad):
				if bad.Example != "" && c.Check(name, bad.Example) != nil {
					t.Errorf("%s: the example %q for %q is refused", file, bad.Example, name)
				}
			case err != nil:
				t.Errorf("%s: %v is of no known kind", file, err)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	c := mustKafka(b, "4.3")
	for name, key := range map[string]string{"known": "num.partitions", "family": "listener.name.client.ssl.protocol", "unknown": "log.retention.hour"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = c.Check(key, "3")
			}
		})
	}
}
