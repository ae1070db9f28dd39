//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	set = "events"
	// records is how many a client writes, and has to get back.
	records = 1000
	// small is for sets beside each other on one small machine.
	small = "\n    metamorph.dev/cpu: 100m\n    metamorph.dev/heap: 256Mi"
)

// manifest is the whole of what a user writes, but for name and settings.
func statefulSet(name string, replicas int, annotations string) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: %s\n  annotations:\n    metamorph.dev/role: kafka%s\nspec: {replicas: %d}\n", name, annotations, replicas)
}

const (
	tool  = "/opt/kafka/bin/"
	login = clientDir + "/client.properties"
)

// produce writes records to a topic that it creates.
var produce = fmt.Sprintf(`
%[1]skafka-topics.sh --bootstrap-server "$BOOTSTRAP" --command-config %[2]s --create --topic orders --partitions 3
seq 1 %[3]d | sed 's/^/order /' |
  %[1]skafka-console-producer.sh --bootstrap-server "$BOOTSTRAP" --producer.config %[2]s --topic orders --producer-property acks=all
`, tool, login, records)

// consume prints how many different records there are.
var consume = fmt.Sprintf(`
%[1]skafka-console-consumer.sh --bootstrap-server "$BOOTSTRAP" --consumer.config %[2]s --topic orders --from-beginning \
  --max-messages %[3]d --timeout-ms 60000 >/tmp/records
echo "records: $(grep '^order ' /tmp/records | sort -u | wc -l)"
`, tool, login, records)

// intrude has to be refused: the right user with a wrong password.
var intrude = fmt.Sprintf(`
sed 's/password="[^"]*"/password="aWrongPasswordOfTheRightLength00"/' %[2]s >/tmp/wrong.properties
! cmp -s %[2]s /tmp/wrong.properties
if timeout 60 %[1]skafka-topics.sh --bootstrap-server "$BOOTSTRAP" --command-config /tmp/wrong.properties --list >/tmp/out 2>&1; then
  cat /tmp/out
  exit 1
fi
grep -o -m 1 'SaslAuthenticationException\|Authentication failed' /tmp/out
`, tool, login)

// life is the whole life of a set: it comes up, keeps records, is deleted, and comes back with them.
func life(t *testing.T, annotations string, brokerDefaults map[string]string, kept func(n int) []string) {
	t.Helper()
	p := newPlace(t, brokerDefaults)
	const brokers = 3
	text := statefulSet(set, brokers, annotations)
	pods := make([]string, brokers)
	for i := range pods {
		pods[i] = fmt.Sprintf("%s-%d", set, i)
	}

	l := p.watch()
	began := time.Now()
	p.must(text, "apply", "--filename=-")
	applied := time.Now()
	p.ready(set, brokers)
	p.eventually("every pod seen as ready", func() (bool, error) {
		_, ok := l.last("Ready/"+pods[0], "Ready/"+pods[1], "Ready/"+pods[2])
		return ok, nil
	})
	p.report(l, set, pods, began, applied)
	l.stop()
	id := p.clusterID()

	p.inPod(set, "producer", produce)
	p.wantRecords()
	if out := p.inPod(set, "intruder", intrude); strings.TrimSpace(out) == "" {
		t.Error("a client with a wrong password was not told why it was refused")
	}

	t.Log("deleting the set")
	p.must("", "delete", "statefulset", set, "--wait")
	p.leave()
	want := kept(brokers)
	p.eventually("nothing is left but what belongs to the volumes", func() (bool, error) {
		left, err := p.everything()
		return slices.Equal(left, want), fmt.Errorf("%w: left is %v, want %v", err, left, want)
	})

	t.Log("applying it again")
	began = time.Now()
	p.must(text, "apply", "--filename=-")
	p.ready(set, brokers)
	t.Logf("ready again after %s", time.Since(began).Round(100*time.Millisecond))
	if again := p.clusterID(); again != id {
		t.Errorf("the cluster id is %q now, and was %q", again, id)
	}
	p.wantRecords()
}

func (p *place) wantRecords() {
	p.Helper()
	if got, want := p.inPod(set, "consumer", consume), fmt.Sprintf("records: %d", records); !strings.Contains(got, want) {
		p.Errorf("the consumer printed %q, want %q", got, want)
	}
}

// clusterID is the id as Kafka has it on the volume of a broker.
func (p *place) clusterID() string {
	p.Helper()
	out := p.must("", "exec", set+"-0", "--container=kafka", "--", "cat", "/var/lib/kafka/data/kafka-logs/meta.properties")
	for _, line := range strings.Split(out, "\n") {
		if id, ok := strings.CutPrefix(line, "cluster.id="); ok {
			return id
		}
	}
	p.Fatalf("no cluster id in %q", out)
	return ""
}

func TestThreeLinesMakeAKafkaClusterThatOutlivesItsStatefulSet(t *testing.T) {
	life(t, "", nil, func(n int) []string {
		return slices.Concat([]string{"ConfigMap/" + set + "-state"}, claims(set, n), []string{"Secret/" + set + "-sasl"})
	})
}

func TestWithZooKeeperTheEnsembleComesAndGoesWithIt(t *testing.T) {
	// Both sets together have to fit on a node with two processors.
	life(t, "\n    metamorph.dev/zookeeper: \"true\"", map[string]string{"metamorph.dev/cpu": "150m"}, func(n int) []string {
		const ensemble = set + "-zookeeper"
		return slices.Concat([]string{"ConfigMap/" + set + "-state", "ConfigMap/" + ensemble + "-state"},
			claims(set, n), claims(ensemble, 3), []string{"Secret/" + set + "-sasl"})
	})
}

func claims(set string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("PersistentVolumeClaim/data-%s-%d", set, i)
	}
	return all
}

// TestTroubleIsToldOnTheStatefulSet makes one set for each kind of trouble.
func TestTroubleIsToldOnTheStatefulSet(t *testing.T) {
	tests := map[string]struct {
		before      string // objects that are there already
		annotations string
		spec        string   // instead of one replica
		want        []string // what an Event on the set has to hold: the object, what is expected, what to do
	}{
		"a Secret lacks keys": {
			before:      "{apiVersion: v1, kind: Secret, metadata: {name: mine}, stringData: {controller: abcdefghijklmnopqrstuvwx}}",
			annotations: "\n    metamorph.dev/sasl-secret: mine",
			want:        []string{"Secret mine", "broker", "client", "MM402"},
		},
		"a Secret does not exist": {
			annotations: "\n    metamorph.dev/sasl-secret: nowhere",
			want:        []string{"Secret nowhere", "MM403"},
		},
		"a Service has the name": {
			before: "{apiVersion: v1, kind: Service, metadata: {name: NAME}, spec: {selector: {app: other}, ports: [{port: 80}]}}",
			want:   []string{"Service NAME", "MM401"},
		},
		"a port is in use": {
			spec: "{replicas: 1, template: {spec: {containers: [{name: side, image: \"apache/kafka:4.3.1\", command: [bash, -c, \"while :; do busybox nc -l -p 9092; done\"]," +
				" securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}}",
			want: []string{"Pod NAME-0", "container kafka ended", "Address already in use", "MM409"},
		},
		"the storage class does not exist": {
			annotations: "\n    metamorph.dev/storage-class: nowhere",
			want:        []string{"nowhere", "StorageClass", "MM406"},
		},
	}
	p := newPlace(t, nil)
	names := map[string]string{}
	for name, test := range tests {
		names[name] = fmt.Sprintf("trouble-%d", len(names))
		fill := strings.NewReplacer("NAME", names[name]).Replace
		if test.before != "" {
			p.must(fill(test.before), "apply", "--filename=-")
		}
		text := statefulSet(names[name], 1, small+test.annotations)
		if test.spec != "" {
			text = strings.Replace(text, "spec: {replicas: 1}", "spec: "+test.spec, 1)
		}
		p.must(text, "apply", "--filename=-")
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fill := strings.NewReplacer("NAME", names[name]).Replace
			p := &place{T: t, cluster: p.cluster, name: p.name}
			p.eventually("an Event that tells", func() (bool, error) {
				events, err := p.client.CoreV1().Events(p.name).List(t.Context(), metav1.ListOptions{
					FieldSelector: "involvedObject.kind=StatefulSet,involvedObject.name=" + names[name],
				})
				if err != nil {
					return false, err
				}
				var told []string
				for _, e := range events.Items {
					told = append(told, e.Reason+": "+e.Message)
					if e.Type == corev1.EventTypeWarning && !slices.ContainsFunc(test.want, func(part string) bool { return !strings.Contains(e.Message, fill(part)) }) {
						t.Logf("%s: %s", e.Reason, e.Message)
						return true, nil
					}
				}
				return false, fmt.Errorf("the Events are %q", told)
			})
		})
	}
}
