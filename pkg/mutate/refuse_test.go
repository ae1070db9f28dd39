package mutate_test

import (
	"errors"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
)

// set is a manifest with a name, annotations (without prefix) and a spec.
func set(name, annotations, spec string) string {
	m := "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: " + name + "\n  annotations:\n"
	for l := range strings.Lines(annotations) {
		if !strings.HasPrefix(l, " ") {
			l = "metamorph.dev/" + l
		}
		m += "    " + strings.TrimRight(l, "\n") + "\n"
	}
	return m + "spec: " + spec + "\n"
}

func kafka(annotations, spec string) string {
	return set("events", "role: kafka\n"+annotations, spec)
}

func inputOf(tb testing.TB, manifest string) mutate.Input {
	tb.Helper()
	raw, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		tb.Fatalf("%v in\n%s", err, manifest)
	}
	return mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: "shop"}, ClusterUID: "0f1e", Version: "v0.0.0-test"}
}

const long52 = "a234567890123456789012345678901234567890123456789012"

// TestRefuse holds every kind of bad input against the field and the words of its refusal.
func TestRefuse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		manifest string
		old      string
		want     []string // each must be in the message; the first is the field
	}{
		"heap with a unit that is not one": {
			kafka(`heap: 10Gb`, "{}"), "",
			[]string{"metadata.annotations[metamorph.dev/heap]: ", `"10Gb"`, "did you mean 10Gi", "allowed: a size from 64Mi", "example: 4Gi", "MM101"},
		},
		"heap negative":             {kafka(`heap: "-1"`, "{}"), "", []string{"[metamorph.dev/heap]", "is negative"}},
		"heap astronomically large": {kafka(`heap: "1e30"`, "{}"), "", []string{"[metamorph.dev/heap]", "is more than 1Ti"}},
		"heap empty":                {kafka(`heap: ""`, "{}"), "", []string{"[metamorph.dev/heap]", "is empty"}},
		"heap in unicode":           {kafka(`heap: "４Ｇｉ"`, "{}"), "", []string{"[metamorph.dev/heap]", "is not a size"}},
		"heap flags the wrong way":  {kafka(`heap: -Xms2g -Xmx1g`, "{}"), "", []string{"[metamorph.dev/heap]", "-Xms is larger than -Xmx"}},
		"heap flags with others":    {kafka(`heap: -Xmx1g -XX:+UseZGC`, "{}"), "", []string{"[metamorph.dev/heap]", `"-XX:+UseZGC" is not a heap flag`}},
		"heap flag twice":           {kafka(`heap: -Xmx1g -Xmx2g`, "{}"), "", []string{"[metamorph.dev/heap]", "-Xmx stands twice"}},
		"heap flag without maximum": {kafka(`heap: -Xms1g`, "{}"), "", []string{"[metamorph.dev/heap]", "-Xmx is missing"}},
		"other JVM flag as heap":    {kafka(`heap: -server`, "{}"), "", []string{"[metamorph.dev/heap]", "only -Xmx and -Xms"}},
		"heap above memory":         {kafka("heap: 4Gi\nmemory: 2Gi", "{}"), "", []string{"[metamorph.dev/heap]", `"4Gi" does not fit`, `memory is "2Gi" (from annotation)`, "MM105"}},
		"memory in thousandths":     {kafka(`memory: 512m`, "{}"), "", []string{"[metamorph.dev/memory]", "did you mean 512Mi"}},
		"cpu zero":                  {kafka(`cpu: "0"`, "{}"), "", []string{"[metamorph.dev/cpu]", "less than 10m"}},
		"cpu in words":              {kafka(`cpu: two`, "{}"), "", []string{"[metamorph.dev/cpu]", "is not a number of cores"}},
		"storage in thousandths":    {kafka(`storage: 10m`, "{}"), "", []string{"[metamorph.dev/storage]", "did you mean 10Mi"}},
		"storage class with spaces": {kafka(`storage-class: my class`, "{}"), "", []string{"[metamorph.dev/storage-class]", "is not a name"}},
		"partitions zero":           {kafka(`partitions: "0"`, "{}"), "", []string{"[metamorph.dev/partitions]", "is not between 1 and 10000"}},
		"partitions with plus":      {kafka(`partitions: "+3"`, "{}"), "", []string{"[metamorph.dev/partitions]", "is not a whole number"}},
		"replication factor zero":   {kafka(`replication-factor: "0"`, "{replicas: 3}"), "", []string{"[metamorph.dev/replication-factor]", "is not between 1"}},
		"replication above the brokers": {
			kafka(`replication-factor: "3"`, "{replicas: 2}"), "",
			[]string{"metadata.annotations[metamorph.dev/replication-factor]: ", `"3" is more than the brokers`, "spec.replicas is 2", "MM105"},
		},
		"min in-sync above replication": {
			kafka("replication-factor: \"2\"\nmin-insync-replicas: \"3\"", "{replicas: 3}"), "",
			[]string{"[metamorph.dev/min-insync-replicas]", "more than the replication factor", `replication-factor is "2"`},
		},
		"retention without unit":       {kafka(`retention: "7"`, "{}"), "", []string{"[metamorph.dev/retention]", "is not a duration with units", "example: 7d"}},
		"retention negative":           {kafka(`retention: "-1"`, "{}"), "", []string{"[metamorph.dev/retention]", "unlimited"}},
		"retention overflowing":        {kafka(`retention: 999999999999w`, "{}"), "", []string{"[metamorph.dev/retention]", "more than 100 years"}},
		"retention-bytes in words":     {kafka(`retention-bytes: all`, "{}"), "", []string{"[metamorph.dev/retention-bytes]", "is not a size"}},
		"unknown annotation":           {kafka(`heapsize: 1Gi`, "{}"), "", []string{"metadata.annotations[metamorph.dev/heapsize]: ", "there is no such setting; did you mean heap", "MM102"}},
		"misspelt annotation":          {kafka(`replicaton-factor: "1"`, "{}"), "", []string{"[metamorph.dev/replicaton-factor]", "did you mean replication-factor"}},
		"another tool's word":          {kafka(`brokers: "3"`, "{}"), "", []string{"[metamorph.dev/brokers]", "did you mean spec.replicas"}},
		"setting of the other role":    {set("zk", "role: zookeeper\npartitions: \"3\"", "{}"), "", []string{"[metamorph.dev/partitions]", "the role zookeeper has no such setting"}},
		"unknown role":                 {set("events", "role: kafak", "{}"), "", []string{"metadata.annotations[metamorph.dev/role]: ", `"kafak"`, "did you mean kafka"}},
		"empty role":                   {set("events", `role: ""`, "{}"), "", []string{"[metamorph.dev/role]", "is empty"}},
		"settings without role":        {set("events", "heap: 1Gi", "{}"), "", []string{"metadata.annotations[metamorph.dev/role]: ", "is missing", "metamorph.dev/heap", "MM103"}},
		"role as a label":              {"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: events, labels: {metamorph.dev/role: kafka}}\nspec: {}", "", []string{"metadata.labels[metamorph.dev/role]: ", "an annotation, not a label", "MM104"}},
		"role as annotation and label": {"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: events, labels: {metamorph.dev/role: zookeeper}, annotations: {metamorph.dev/role: kafka}}\nspec: {}", "", []string{"metadata.labels[metamorph.dev/role]: ", "MM104"}},
		"role added to a plain set": {
			kafka("", "{}"), "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: events}\nspec: {}",
			[]string{"metadata.annotations[metamorph.dev/role]: ", "was added to a StatefulSet that Metamorph does not manage", "MM202"},
		},
		"ZooKeeper with Kafka 4": {
			kafka("version: 4.3.1\nzookeeper: \"true\"", "{replicas: 3}"), "",
			[]string{"[metamorph.dev/zookeeper]", "needs Kafka 3.9", `version is "4.3.1"`},
		},
		"unsupported version":        {kafka("version: 2.8.0", "{}"), "", []string{"[metamorph.dev/version]", "not a version of kafka that can be rendered", "4.3"}},
		"version of two numbers":     {kafka("version: \"4.3\"", "{}"), "", []string{"[metamorph.dev/version]", "not a version of three numbers"}},
		"image without tag":          {kafka("image: apache/kafka", "{}"), "", []string{"[metamorph.dev/image]", "neither tag nor digest"}},
		"image with spaces":          {kafka("image: apache kafka", "{}"), "", []string{"[metamorph.dev/image]", "is not an image reference"}},
		"ZooKeeper without port":     {kafka("zookeeper: zk-0,zk-1", "{}"), "", []string{"[metamorph.dev/zookeeper]", `"zk-0" is not host:port`}},
		"ZooKeeper with a wild path": {kafka("zookeeper: zk:2181/a/../b", "{}"), "", []string{"[metamorph.dev/zookeeper]", "path that ZooKeeper does not take"}},
		"ensemble size without one":  {kafka("zookeeper-replicas: \"3\"", "{}"), "", []string{"[metamorph.dev/zookeeper-replicas]", "this set has none"}},
		"sasl mechanism misspelt":    {kafka("sasl: SCRAM-SHA-512", "{}"), "", []string{"[metamorph.dev/sasl]", "did you mean scram-sha-512"}},
		"config that is no property": {kafka("config: |\n      just words", "{}"), "", []string{"[metamorph.dev/config]", "has no key=value in line 1"}},
		"config with an unknown key": {kafka("config: |\n      mesage.max.bytes=1", "{}"), "", []string{"[metamorph.dev/config]", `"mesage.max.bytes=1"`, "did you mean message.max.bytes"}},
		"config of the wrong type":   {kafka("config: |\n      message.max.bytes=lots", "{}"), "", []string{"[metamorph.dev/config]", "message.max.bytes=lots", "is not a whole number"}},
		"config out of range":        {kafka("config: |\n      num.io.threads=0", "{}"), "", []string{"[metamorph.dev/config]", "num.io.threads=0"}},
		"config against identity":    {kafka("config: |\n      node.id=7", "{}"), "", []string{"[metamorph.dev/config]", "the node's identity"}},
		"config against quorum":      {kafka("config: |\n      controller.quorum.voters=0@x:1", "{}"), "", []string{"[metamorph.dev/config]", "the quorum"}},
		"config against security":    {kafka("config: |\n      listener.name.client.sasl.enabled.mechanisms=PLAIN", "{}"), "", []string{"[metamorph.dev/config]", "is security"}},
		"config against the listeners": {
			kafka("config: |\n      advertised.listeners=CLIENT://x:1", "{}"), "", []string{"[metamorph.dev/config]", "network identity"},
		},
		"config against an annotation": {
			kafka("partitions: \"3\"\nconfig: |\n      num.partitions=6", "{}"), "",
			[]string{"[metamorph.dev/config]", "contradicts metamorph.dev/partitions", `"3"`},
		},
		"config with two units of retention": {
			kafka("config: |\n      log.retention.hours=1\n      log.retention.minutes=1", "{}"), "",
			[]string{"[metamorph.dev/config]", "contradicts metamorph.dev/retention"},
		},
		"config with a key twice":     {kafka("config: |\n      message.max.bytes=1\n      message.max.bytes=2", "{}"), "", []string{"[metamorph.dev/config]", "twice"}},
		"profile that does not exist": {kafka("profile: prod", "{}"), "", []string{"metadata.annotations[metamorph.dev/profile]: ", "there is no such profile", "did you mean production", "MM110"}},
		"name of 53 characters":       {set(long52+"3", "role: kafka", "{}"), "", []string{"metadata.name: ", "has 53 characters", "MM106"}},
		"name of 43 with an ensemble": {set(long52[:43], "role: kafka\nzookeeper: \"true\"", "{}"), "", []string{"metadata.name: ", "room for 42"}},
		"name with a dot":             {set("a.b", "role: kafka", "{}"), "", []string{"metadata.name: ", "cannot be part of the Service's name"}},
		"no name":                     {"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {generateName: events-, annotations: {metamorph.dev/role: kafka}}\nspec: {}", "", []string{"metadata.name: ", "is required"}},
		"ordinals that start at 5":    {kafka("", "{ordinals: {start: 5}}"), "", []string{"spec.ordinals.start: ", "must start at 0"}},
		"main container without image": {
			kafka("", "{template: {spec: {containers: [{name: kafka, env: [{name: TZ, value: UTC}]}]}}}"), "",
			[]string{"spec.template.spec.containers[kafka].image: ", "is missing", "example: apache/kafka:4.3.1"},
		},
		"volume that collides": {
			kafka("", "{template: {spec: {volumes: [{name: metamorph-config, emptyDir: {}}]}}}"), "",
			[]string{"spec.template.spec.volumes[metamorph-config]: ", "collides"},
		},
		"volume in place of the claim": {
			kafka("", "{template: {spec: {volumes: [{name: data, emptyDir: {}}]}}}"), "",
			[]string{"spec.template.spec.volumes[data]: ", "collides"},
		},
		"mount that collides": {
			kafka("", "{template: {spec: {volumes: [{name: x, emptyDir: {}}], containers: [{name: kafka, image: a:1, volumeMounts: [{name: x, mountPath: /var/lib/kafka/data}]}]}}}"), "",
			[]string{"volumeMounts[/var/lib/kafka/data]: ", "collides with /var/lib/kafka/data"},
		},
		"mount that hides": {
			kafka("", "{template: {spec: {volumes: [{name: x, emptyDir: {}}], containers: [{name: kafka, image: a:1, volumeMounts: [{name: x, mountPath: /etc/}]}]}}}"), "",
			[]string{"volumeMounts[/etc/]: ", "collides with /etc/metamorph"},
		},
		"variable of ours": {
			kafka("", "{template: {spec: {containers: [{name: kafka, image: a:1, env: [{name: MM_CLUSTER_ID, value: x}]}]}}}"), "",
			[]string{"env[MM_CLUSTER_ID]: ", "carry the node's identity"},
		},
		"Service of another name":  {kafka("", "{serviceName: kafka}"), "", []string{"spec.serviceName: ", "events-headless"}},
		"annotation of ours":       {kafka("cluster-id: abc", "{}"), "", []string{"[metamorph.dev/cluster-id]", "never by users", "MM108"}},
		"template annotation":      {kafka("", `{template: {metadata: {annotations: {metamorph.dev/server.properties: "a=b"}}}}`), "", []string{"spec.template.metadata.annotations", "never by users"}},
		"a password as annotation": {kafka("sasl-password: hunter2hunter2", "{}"), "", []string{"[metamorph.dev/sasl-password]", "a Secret", "MM111"}},
		"a password in config":     {kafka("config: |\n      client.quota.callback.class=x password=hunter2hunter2", "{}"), "", []string{"[metamorph.dev/config]", "holds a password", "MM111"}},
		"an empty annotation":      {kafka(`sasl-secret: ""`, "{}"), "", []string{"[metamorph.dev/sasl-secret]", "is empty"}},
		"spec of the wrong type":   {kafka("", "[]"), "", []string{"spec: ", "MM112"}},
		"replicas of the wrong type": {
			kafka("", `{replicas: three}`), "", []string{"spec: ", "replicas", "MM112"},
		},
		"an ensemble of thousands": {
			set("zk", "role: zookeeper", "{replicas: 2147483647}"), "", []string{"spec.replicas: ", "2147483647", "ends at 255", "example: 3"},
		},
		"a container without a name": {kafka("", "{template: {spec: {initContainers: [{image: a}]}}}"), "", []string{"spec.template.spec.initContainers: ", "without a name", "MM112"}},
		"two volumes of one name": {
			kafka("", "{template: {spec: {volumes: [{name: a}, {name: a}]}}}"), "", []string{"spec.template.spec.volumes: ", "two of one name"},
		},
		"a negative number of nodes": {kafka("", "{replicas: -3}"), "", []string{"spec.replicas: ", "-3", "is negative"}},
		"annotation that is a number": {
			kafka("partitions: 3", "{}"), "", []string{"metadata.annotations[metamorph.dev/partitions]: ", "is a number", `"3"`, "MM112"},
		},
		"an expansion under another name": {
			set("other", "role: kafka\nsource: '{}'\nsettings: '{\"role\":{\"value\":\"kafka\",\"from\":\"annotation\"}}'", "{}"), "",
			[]string{"metadata.name: ", "MM205"},
		},
		"a source that is none": {
			set("events", "role: kafka\nsource: '['\nsettings: '{}'", "{}"), "", []string{"[metamorph.dev/source]", "cannot be read"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := inputOf(t, test.manifest)
			if test.old != "" {
				in.OldObject = inputOf(t, test.old).Object
			}
			_, err := mutate.Expand(in)
			var invalid *mutate.Invalid
			if !errors.As(err, &invalid) {
				t.Fatalf("not refused: %v", err)
			}
			if len(invalid.Problems) != 1 {
				t.Errorf("%d problems instead of one:\n%v", len(invalid.Problems), err)
			}
			field := invalid.Problems[0].Field + ": "
			if !strings.Contains(field, test.want[0]) {
				t.Errorf("field %q, want %q", field, test.want[0])
			}
			for _, p := range invalid.Problems {
				if p.Allowed == "" || p.Example == "" {
					t.Errorf("it does not say what is allowed (%q), or has no example (%q): %s", p.Allowed, p.Example, p)
				}
			}
			for _, w := range test.want[1:] {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in\n%v", w, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is repeated:\n%v", err)
			}
		})
	}
}

// TestRefuseAll reports every problem in one answer.
func TestRefuseAll(t *testing.T) {
	t.Parallel()
	_, err := mutate.Expand(inputOf(t, kafka("heap: 10Gb\nstorage: \"-5\"\nretntion: 7d\nprofile: nope", "{ordinals: {start: 1}, serviceName: x}")))
	var invalid *mutate.Invalid
	if !errors.As(err, &invalid) || len(invalid.Problems) != 6 {
		t.Fatalf("want 6 problems, got\n%v", err)
	}
	if !strings.HasPrefix(err.Error(), "The StatefulSet \"events\" is invalid:\n* ") {
		t.Errorf("not in kubectl's form:\n%v", err)
	}
}
