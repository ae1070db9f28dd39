package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/metamorph-k8s/metamorph/test/broker/kubelet"
)

const (
	// records are moved through each cluster.
	records = 10_000
	// patience is for all that one combination does.
	patience = 6 * time.Minute
)

// TestCombinations runs a cluster for each combination. One of them: go test -run 'TestCombinations/kraft-4.3,3,plain,.*'
func TestCombinations(t *testing.T) {
	chosen := dozen
	if *full {
		chosen = all()
	}
	for i, choice := range chosen {
		t.Run(choice.String(), func(t *testing.T) {
			t.Parallel()
			co, title := choice.combination(), fmt.Sprintf("%d of %d: %s", i+1, len(chosen), choice)
			ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("not done within %s", patience))
			defer cancel()
			began, last := time.Now(), time.Now()
			phase := func(what string) {
				fmt.Fprintf(os.Stderr, "%s: %s (%.1f s)\n", title, what, time.Since(last).Seconds())
				last = time.Now()
			}
			c := newCluster(t, co)
			t.Cleanup(func() {
				if t.Failed() {
					c.logs(t)
				}
			})

			c.refuseBadSecrets(ctx, t)
			phase("bad Secrets stop the init step")
			c.start(ctx, t)
			for _, p := range append(slices.Clone(c.servers), c.brokers...) {
				if err := p.CheckAlive(ctx); err != nil {
					t.Fatal(err)
				}
			}
			phase("all nodes are ready")
			c.refuseWrongPassword(ctx, t)
			c.explained(ctx, t)
			c.moveRecords(ctx, t, "before")
			if co.metrics {
				c.scrape(ctx, t)
			}
			phase("wrong password refused, configuration as explained, records moved")
			if len(c.brokers) >= 3 {
				c.killWhileProducing(ctx, t)
				phase("a broker was killed, nothing was lost, and it is back")
			}
			c.discreet(t)
			c.refuseLostState(ctx, t)
			phase("lost state refused")
			if co.nodes > 3 && !co.zookeeper() {
				c.mended(ctx, t)
				phase("a lost volume was replaced, as people permitted")
			}
			fmt.Fprintf(os.Stderr, "%s: done in %.0f s\n", title, time.Since(began).Seconds())
		})
	}
}

// logs prints what helps to find out why a test failed.
func (c *cluster) logs(t *testing.T) {
	t.Helper()
	for _, p := range append(slices.Clone(c.servers), c.brokers...) {
		lines := strings.Split(p.Log("metamorph-init")+p.Log(p.Main()), "\n")
		if !*keep {
			lines = lines[max(0, len(lines)-40):]
		}
		t.Logf("%s:\n%s", p.Name, strings.Join(lines, "\n"))
	}
}

// refuseBadSecrets starts node 0 with Secrets that are not as they should be: its init step ends, says why, and leaves
// the volume alone.
func (c *cluster) refuseBadSecrets(ctx context.Context, t *testing.T) {
	t.Helper()
	pod := c.brokers[0]
	for _, bad := range c.badSecrets() {
		good := c.ns.Secret(bad.secret)
		c.ns.SetSecret(bad.secret, bad.data)
		err := pod.Start(ctx)
		c.ns.SetSecret(bad.secret, good)
		if err == nil {
			t.Errorf("%s: the node started", bad.what)
		} else if !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: got %v, want %q", bad.what, err, bad.want)
		}
		var init *kubelet.InitError
		if errors.As(err, &init) && !strings.Contains(init.Termination, bad.want) {
			t.Errorf("%s: the termination message is %q, want %q in it", bad.what, init.Termination, bad.want)
		}
		for key, value := range c.passwords {
			if err != nil && strings.Contains(err.Error(), value) {
				t.Errorf("%s: the password %s is in the message: %v", bad.what, key, err)
			}
		}
		pod.Kill()
		c.untouched(t, pod, bad.what)
	}
	if c.passwords == nil {
		return
	}
	// Who makes the volume optional takes the kubelet's refusal away. Kafka would take the reference for the password.
	set := c.set.DeepCopy()
	for _, v := range set.Spec.Template.Spec.Volumes {
		if v.Secret != nil && v.Secret.SecretName == name+"-sasl" {
			v.Secret.Optional = new(true)
		}
	}
	pods, err := c.ns.Pods(set)
	if err != nil {
		t.Fatal(err)
	}
	good := c.ns.Secret(name + "-sasl")
	c.ns.SetSecret(name+"-sasl", map[string][]byte{"controller": good["controller"], "broker": good["broker"]})
	c.refused(ctx, t, pods[0], "no key client in an optional volume", "the SASL Secret has no key client")
	c.ns.SetSecret(name+"-sasl", good)
}

// untouched fails if there is a file in the pod's volume.
func (c *cluster) untouched(t *testing.T, pod *kubelet.Pod, what string) {
	t.Helper()
	files, err := pod.Files("data")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 0 {
		t.Errorf("%s: written nevertheless: %v", what, slices.Sorted(maps.Keys(files)))
	}
}

type badSecret struct {
	what, secret string
	data         map[string][]byte
	want         string
}

func (c *cluster) badSecrets() []badSecret {
	var out []badSecret
	change := func(what, secret, key string, value []byte, want string) {
		data := c.ns.Secret(secret)
		if value == nil {
			delete(data, key)
		} else {
			data[key] = value
		}
		out = append(out, badSecret{what, secret, data, want})
	}
	if c.passwords != nil {
		s := name + "-sasl"
		// The kubelet's own refusal, which is what explicit items in the volume are for.
		change("no key client", s, "client", nil, "references non-existent secret key: client")
		change("a line break", s, "broker", []byte(c.passwords["broker"]+"\n"), "the SASL Secret's key broker must be 16 or more")
		change("too short", s, "client", []byte("short"), "the SASL Secret's key client must be 16 or more")
		change("a comma", s, "client", []byte("aaaaaaaaaaaaaaaa,bbbbbbbbbbbbbbbb"), "the SASL Secret's key client must be 16 or more")
		change("empty", s, "client", []byte{}, "the SASL Secret's key client must be 16 or more")
		if c.zookeeper() {
			change("ZooKeeper's with a quote", s, "zookeeper", []byte(`aaaaaaaaaaaaaaaa"bbbbbbbbbbbbbbbb`), "the SASL Secret's key zookeeper must be 16 or more")
		}
	}
	if c.tls {
		s := name + "-tls"
		change("no ca.crt", s, "ca.crt", nil, "references non-existent secret key: ca.crt")
		change("an empty certificate", s, "tls.crt", []byte{}, "the TLS Secret has no tls.crt")
		change("a PKCS#1 key", s, "tls.key", []byte("-----BEGIN RSA PRIVATE KEY-----\n"), "must be an unencrypted PKCS#8 key")
	}
	return out
}

// refuseWrongPassword logs in with the password of another user and one of nobody.
func (c *cluster) refuseWrongPassword(ctx context.Context, t *testing.T) {
	t.Helper()
	if c.passwords == nil {
		return
	}
	for what, wrong := range map[string]string{"another user's": c.passwords["broker"], "nobody's": password(t)} {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := c.client(t, wrong, kgo.RetryTimeout(5*time.Second)).Ping(ctx)
		cancel()
		if !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("with %s password: %v, want %v", what, err, kerr.SaslAuthenticationFailed)
		}
	}
}

var provided = regexp.MustCompile(`\$\{(env|dir):([^}]*)\}`)

// claims are the keys of server.properties that expand --explain prints, with their values.
func (c *cluster) claims() map[string]string {
	const prefix = "spec.template.metadata.annotations[metamorph.dev/server.properties]["
	out := map[string]string{}
	for _, f := range c.set.out.Fields {
		if key, ok := strings.CutPrefix(f.Path, prefix); ok {
			out[strings.TrimSuffix(key, "]")] = fmt.Sprint(f.Value)
		}
	}
	return out
}

// explained compares what every broker says of its configuration with what expand --explain says of it.
func (c *cluster) explained(ctx context.Context, t *testing.T) {
	t.Helper()
	admin := kadm.NewClient(c.client(t, ""))
	// A node is ready when it takes part, which the one that the client asks may not have heard of yet.
	eventually(ctx, t, "all brokers in the metadata", func() error {
		brokers, err := admin.ListBrokers(ctx)
		if err == nil && len(brokers) != len(c.brokers) {
			err = fmt.Errorf("there are %d of %d", len(brokers), len(c.brokers))
		}
		return err
	})
	claims := c.claims()
	for i, p := range c.brokers {
		env, err := p.Environ()
		if err != nil {
			t.Fatal(err)
		}
		answer, err := admin.DescribeBrokerConfigs(ctx, int32(i))
		if err != nil {
			t.Fatal(err)
		}
		resource, err := answer.On(strconv.Itoa(i), nil)
		if err == nil {
			err = resource.Err
		}
		if err != nil {
			t.Fatal(err)
		}
		own := map[string]kadm.Config{}
		for _, entry := range resource.Configs {
			own[entry.Key] = entry
		}
		want := maps.Clone(claims)
		want["broker.rack"] = zone(i)
		compared := 0
		for key, value := range want {
			entry, ok := own[key]
			if !ok {
				t.Errorf("broker %d does not know %s", i, key)
				continue
			}
			if entry.Sensitive {
				if entry.Value != nil {
					t.Errorf("broker %d tells a sensitive value: %s", i, key)
				}
				continue
			}
			value = provided.ReplaceAllStringFunc(value, func(reference string) string {
				m := provided.FindStringSubmatch(reference)
				if m[1] != "env" {
					return reference
				}
				return env[m[2]]
			})
			compared++
			if got := entry.MaybeValue(); got != value {
				t.Errorf("broker %d has %s=%s, and expand --explain says %s", i, key, got, value)
			}
		}
		t.Logf("broker %d tells %d of the %d keys that expand --explain has", i, compared, len(want))
		// Secrets aside, and what belongs to config providers and single listeners, which brokers do not tell.
		if compared < 20 {
			t.Errorf("broker %d tells only %d of the %d keys", i, compared, len(want))
		}
		for key, value := range overridden {
			if got := own[key]; c.config != (got.MaybeValue() == value) {
				t.Errorf("broker %d has %s=%s; config is set: %v", i, key, got.MaybeValue(), c.config)
			}
		}
	}
}

// moveRecords makes a topic with the cluster's defaults, writes records into it and reads them back in a group.
func (c *cluster) moveRecords(ctx context.Context, t *testing.T, topic string) {
	t.Helper()
	c.newTopic(ctx, t, topic)
	producer := c.client(t, "", kgo.DefaultProduceTopic(topic))
	var failed atomic.Pointer[error]
	for i := range records {
		producer.Produce(ctx, record(i), func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	want := map[string]bool{}
	for i := range records {
		want[string(record(i).Value)] = true
	}
	c.consume(ctx, t, topic, want)
}

func record(i int) *kgo.Record {
	return &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: fmt.Appendf(nil, "record %05d %s", i, strings.Repeat("x", 100))}
}

// consume reads a topic from its start in a group of its own until all wanted values were there; each must be there once.
func (c *cluster) consume(ctx context.Context, t *testing.T, topic string, want map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, errors.New("not all records came"))
	defer cancel()
	consumer := c.client(t, "", kgo.ConsumeTopics(topic), kgo.ConsumerGroup("group-"+topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	seen := map[string]int{}
	for missing := len(want); missing > 0; {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s: %v: %d of %d are missing", topic, context.Cause(ctx), missing, len(want))
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			var retry *kerr.Error
			if !errors.As(err, &retry) || !retry.Retriable {
				t.Errorf("%s-%d: %v", topic, partition, err)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			value := string(r.Value)
			if seen[value]++; seen[value] == 1 && want[value] {
				missing--
			}
		})
	}
	twice := 0
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	if twice > 0 {
		t.Errorf("%s: %d records are there more than once", topic, twice)
	}
	if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
		t.Error(err)
	}
}

// newTopic makes a topic with the cluster's defaults, and compares them with the settings.
func (c *cluster) newTopic(ctx context.Context, t *testing.T, topic string) {
	t.Helper()
	admin := kadm.NewClient(c.client(t, ""))
	if _, err := admin.CreateTopic(ctx, -1, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	wantReplicas, _ := strconv.Atoi(c.set.out.Settings["replication-factor"].Text)
	if want := min(3, len(c.brokers)); wantReplicas != want {
		t.Fatalf("the setting replication-factor is %d, want %d", wantReplicas, want)
	}
	eventually(ctx, t, "the topic "+topic+" is there", func() error {
		found, err := admin.ListTopics(ctx, topic)
		if err == nil {
			err = found[topic].Err
		}
		if err != nil {
			return err
		}
		if n := len(found[topic].Partitions); n != partitions {
			return fmt.Errorf("it has %d partitions, want %d", n, partitions)
		}
		for _, p := range found[topic].Partitions {
			if len(p.Replicas) != wantReplicas || len(p.ISR) != wantReplicas || p.Leader < 0 {
				return fmt.Errorf("partition %d has leader %d, replicas %v, in sync %v, want %d", p.Partition, p.Leader, p.Replicas, p.ISR, wantReplicas)
			}
		}
		return nil
	})
	var resource kadm.ResourceConfig
	// Whichever broker is asked, it may not have heard of the topic yet.
	eventually(ctx, t, "the topic "+topic+" has a configuration", func() error {
		answer, err := admin.DescribeTopicConfigs(ctx, topic)
		if err == nil {
			resource, err = answer.On(topic, nil)
		}
		return errors.Join(err, resource.Err)
	})
	want := map[string]string{
		"min.insync.replicas":            c.set.out.Settings["min-insync-replicas"].Text,
		"retention.ms":                   strconv.Itoa(2 * 24 * 3600 * 1000),
		"retention.bytes":                "-1",
		"unclean.leader.election.enable": "false",
		"segment.bytes":                  c.claims()["log.segment.bytes"],
	}
	if c.config {
		want["compression.type"] = overridden["compression.type"]
	}
	for _, entry := range resource.Configs {
		if value, ok := want[entry.Key]; ok {
			if entry.MaybeValue() != value {
				t.Errorf("the topic %s has %s=%s, want %s", topic, entry.Key, entry.MaybeValue(), value)
			}
			delete(want, entry.Key)
		}
	}
	if len(want) > 0 {
		t.Errorf("the topic %s does not tell %v", topic, want)
	}
}

// eventually waits until there is no error.
func eventually(ctx context.Context, t *testing.T, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited until %s: %v", what, err)
		case <-retry.C:
		}
	}
}

// scrape reads the metrics of every node.
func (c *cluster) scrape(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, p := range append(slices.Clone(c.servers), c.brokers...) {
		want := []string{"kafka_server_brokertopicmetrics_messagesinpersec_total", "kafka_server_replicamanager_leadercount"}
		if p.Main() == "zookeeper" {
			want = []string{"znode_count", "jvm_memory"}
		}
		text, err := get(ctx, "http://"+net.JoinHostPort(p.Addr().String(), "9404")+"/metrics")
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		for _, metric := range want {
			if !strings.Contains(text, metric) {
				t.Errorf("%s serves no %s:\n%.3000s", p.Name, metric, text)
			}
		}
	}
}

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), err
}

// killWhileProducing kills the leader of a partition in the midst of producing. What was acknowledged must be there, and
// the broker must come back into all that it was in.
func (c *cluster) killWhileProducing(ctx context.Context, t *testing.T) {
	t.Helper()
	const topic = "during"
	c.newTopic(ctx, t, topic)
	admin := kadm.NewClient(c.client(t, ""))
	victim := c.leader(ctx, t, admin, topic)

	producer := c.client(t, "", kgo.DefaultProduceTopic(topic), kgo.RecordDeliveryTimeout(2*time.Minute), kgo.ProducerBatchMaxBytes(16<<10))
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	killed := false
	for i := range records {
		producer.Produce(ctx, record(i), func(r *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("not acknowledged: %v", err)
				return
			}
			acknowledged[string(r.Value)] = true
		})
		if i == records/2 {
			eventually(ctx, t, "some records were acknowledged", func() error {
				mu.Lock()
				defer mu.Unlock()
				if len(acknowledged) == 0 {
					return errors.New("none")
				}
				return nil
			})
			victim.Kill()
			killed = true
		}
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if !killed || len(acknowledged) != records {
		t.Errorf("%d of %d records were acknowledged", len(acknowledged), records)
	}
	c.consume(ctx, t, topic, acknowledged)

	// Half of the combinations as the kubelet does it when a container has ended, the others as a new pod on the old volume.
	var err error
	if c.config {
		err = victim.Restart()
	} else {
		err = victim.Start(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	c.inSync(ctx, t, victim)
}

// inSync waits until a broker that was away has caught up in all partitions.
func (c *cluster) inSync(ctx context.Context, t *testing.T, pod *kubelet.Pod) {
	t.Helper()
	admin := kadm.NewClient(c.client(t, ""))
	eventually(ctx, t, pod.Name+" is in sync again", func() error {
		found, err := admin.ListTopicsWithInternal(ctx)
		if err != nil {
			return err
		}
		for _, topic := range found {
			for _, p := range topic.Partitions {
				if len(p.ISR) != len(p.Replicas) {
					return fmt.Errorf("%s-%d: replicas %v, in sync %v", topic.Topic, p.Partition, p.Replicas, p.ISR)
				}
			}
		}
		return nil
	})
}

// leader is the pod that leads the first partition.
func (c *cluster) leader(ctx context.Context, t *testing.T, admin *kadm.Client, topic string) *kubelet.Pod {
	t.Helper()
	found, err := admin.ListTopics(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	return c.brokers[found[topic].Partitions[0].Leader]
}

// refuseLostState starts nodes again without what they had: they must stop with a reason, and not begin anew.
func (c *cluster) refuseLostState(ctx context.Context, t *testing.T) {
	t.Helper()
	pod := c.brokers[0]
	if code, err := pod.Stop(ctx); err != nil || code != 143 {
		t.Errorf("%s was asked to end, and ended with %d, %v", pod.Name, code, err)
	}
	if c.passwords != nil {
		good := c.ns.Secret(name + "-sasl")
		c.ns.SetSecret(name+"-sasl", nil)
		c.refused(ctx, t, pod, "the Secret is lost", `secret "`+name+`-sasl" not found`)
		c.ns.SetSecret(name+"-sasl", good)
	}
	if c.zookeeper() {
		c.refuseLostEnsemble(ctx, t)
		return
	}
	other := expand(t, otherKubernetes, name, len(c.brokers), c.annotations())
	pods, err := c.ns.Pods(other.StatefulSet)
	if err != nil {
		t.Fatal(err)
	}
	id, otherID := c.set.out.Settings["cluster-id"].Text, other.out.Settings["cluster-id"].Text
	if id == otherID {
		t.Fatalf("the sets of two Kubernetes clusters have one id, %s", id)
	}
	c.refused(ctx, t, pods[0], "another cluster's volume", "the volume belongs to the cluster "+id+", and this is "+otherID)
	c.instead(t, pod, map[string]string{"kafka-logs/meta.properties": "version=1\ncluster.id=" + id + "\nnode.id=1\n"}, func() {
		c.refused(ctx, t, pod, "another node's volume", "the volume belongs to node 1, and this is node 0")
	})
	// What the companion notes when a node was ready.
	c.ns.SetConfigMap(name+"-state", map[string]string{"0": ""})
	c.instead(t, pod, nil, func() { c.refused(ctx, t, pod, "the volume is lost", "controller 0 has run before: its data is lost") })
}

// refused starts a pod that must not start, and leave its volume as it is.
func (c *cluster) refused(ctx context.Context, t *testing.T, pod *kubelet.Pod, what, want string) {
	t.Helper()
	before, err := pod.Files("data")
	if err != nil {
		t.Fatal(err)
	}
	err = pod.Start(ctx)
	pod.Kill()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
	after, err := pod.Files("data")
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before, after) {
		t.Errorf("%s: the volume was changed nevertheless", what)
	}
}

// instead calls f while a pod has another volume with these files.
func (c *cluster) instead(t *testing.T, pod *kubelet.Pod, files map[string]string, f func()) {
	t.Helper()
	restore, err := pod.Replace("data", files)
	if err != nil {
		t.Fatal(err)
	}
	f()
	if err := restore(); err != nil {
		t.Fatal(err)
	}
}

// refuseLostEnsemble gives a ZooKeeper server another one's volume, and, where it is the only one, an empty one: brokers
// whose cluster is not in ZooKeeper any more must not found a new one. Broker 0 does not run.
func (c *cluster) refuseLostEnsemble(ctx context.Context, t *testing.T) {
	t.Helper()
	server := c.servers[0]
	if code, err := server.Stop(ctx); err != nil || code != 143 {
		t.Errorf("%s was asked to end, and ended with %d, %v", server.Name, code, err)
	}
	c.instead(t, server, map[string]string{"zookeeper/myid": "7\n"}, func() {
		c.refused(ctx, t, server, "another server's volume", "the volume belongs to server 7, and this is server 1")
	})
	if len(c.brokers) > 1 || len(c.servers) > 1 {
		return
	}
	c.instead(t, server, nil, func() {
		if err := server.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := server.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.brokers[0].Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.brokers[0].WaitEnded(ctx); err == nil || !strings.Contains(err.Error(), "Invalid cluster.id in") {
			t.Errorf("a broker on an empty ensemble: got %v, want that it refuses the cluster id", err)
		}
		server.Kill()
	})
}

// mended empties a controller's volume, and permits formatting: the node gets its data from the others.
func (c *cluster) mended(ctx context.Context, t *testing.T) {
	t.Helper()
	pod := c.brokers[0]
	c.ns.SetConfigMap(name+"-state", nil)
	if _, err := pod.Replace("data", nil); err != nil {
		t.Fatal(err)
	}
	if err := pod.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := pod.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	c.inSync(ctx, t, pod)
}

// discreet looks for passwords in all that can be read without the right to read Secrets.
func (c *cluster) discreet(t *testing.T) {
	t.Helper()
	for _, p := range append(slices.Clone(c.servers), c.brokers...) {
		for where, text := range p.Said() {
			for key, value := range c.passwords {
				if strings.Contains(text, value) {
					t.Errorf("%s: the password %s is in %s", p.Name, key, where)
				}
			}
		}
	}
}
