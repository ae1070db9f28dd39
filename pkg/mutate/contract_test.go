package mutate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

// expanded expands a manifest in a namespace.
func expanded(t *testing.T, manifest string, namespace map[string]string) (*mutate.Output, error) {
	t.Helper()
	in := inputOf(t, manifest)
	in.Namespace.Annotations = namespace
	return mutate.Expand(in)
}

func mustExpand(t *testing.T, manifest string, namespace map[string]string) *mutate.Output {
	t.Helper()
	out, err := expanded(t, manifest, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func valueAt(obj map[string]any, p leaf.Path) any {
	v, _ := leaf.Of(obj, nil).Get(p)
	return v
}

func warned(out *mutate.Output, words string) bool {
	for _, w := range out.Warnings {
		if strings.Contains(w.String(), words) {
			return true
		}
	}
	return false
}

// TestSpecDecides lets what a user writes into the main container decide for the whole set.
func TestSpecDecides(t *testing.T) {
	t.Parallel()
	out := mustExpand(t, kafka("", `{template: {spec: {containers: [{name: kafka, image: "apache/kafka:3.9.1", resources: {limits: {memory: 1Gi}, requests: {cpu: "8"}}}]}}}`), nil)
	init := at(append(pod, "initContainers", "#metamorph-init")...)
	for p, want := range map[leaf.Path]any{
		init.Child("image"): "apache/kafka:3.9.1",
		init.Child("resources").Child("limits").Child("memory"):                                                "1Gi",
		broker.Child("resources").Child("requests").Child("memory"):                                            "1Gi",
		properties.Child("#num.io.threads"):                                                                    "16",
		at("spec", "template", "metadata", "annotations", "metamorph.dev/log4j2.yaml"):                         nil,
		at("spec", "template", "spec", "containers", "#kafka", "env", "#MM_HEAP_OPTS"):                         map[string]any{"name": "MM_HEAP_OPTS", "value": "-Xms409m -Xmx409m"},
		at("spec", "template", "spec", "initContainers", "#metamorph-init", "resources", "requests", "memory"): "1Gi",
	} {
		if got := valueAt(out.Object, p); !leaf.Equal(got, want) {
			t.Errorf("%s is %v, want %v", p, got, want)
		}
	}
	if v := out.Settings["version"]; v.Text != "3.9.1" {
		t.Errorf("version %v", v)
	}
}

// TestImageAndVersion never renders the configuration of another line than the image's without a word.
func TestImageAndVersion(t *testing.T) {
	t.Parallel()
	for manifest, want := range map[string]string{
		"image: apache/kafka:3.8.0":                           "3.8.0 is not a version of kafka that can be rendered",
		"image: apache/kafka:3.9.1\nversion: 4.3.1":           "is another line than the version",
		"image: example.com/kafka:3.9.1-corp\nversion: 4.1.0": "is another line than the version",
	} {
		if _, err := expanded(t, kafka(manifest, "{}"), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", manifest, err, want)
		}
	}
	if out := mustExpand(t, kafka("image: example.com/cp-kafka:7.6.0\nversion: 4.1.0", "{}"), nil); out.Settings["version"].Text != "4.1.0" {
		t.Error(out.Settings["version"])
	}
	if out := mustExpand(t, kafka("image: example.com/kafka:latest", "{}"), nil); !warned(out, "tag is no version") {
		t.Error(out.Warnings)
	}
	lower := map[string]string{"metamorph.dev/image": "apache/kafka:3.9.1"}
	if out := mustExpand(t, kafka("version: 4.3.1", "{}"), lower); out.Settings["image"].Text != "apache/kafka:4.3.1" || !warned(out, "is not of the version") {
		t.Error(out.Settings["image"], out.Warnings)
	}
	if out := mustExpand(t, set("zk", "role: zookeeper", "{replicas: 3}"), lower); !strings.HasPrefix(out.Settings["image"].Text, "zookeeper:") {
		t.Error(out.Settings["image"])
	}
}

// TestLowerLayersGiveWay never refuses an object for a default that does not fit what it says itself.
func TestLowerLayersGiveWay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		annotations string
		namespace   map[string]string
		key, want   string
	}{
		"memory below the heap":       {"heap: 4Gi", map[string]string{"memory": "2Gi"}, "memory", "8Gi"},
		"a profile below the heap":    {"heap: 1Gi\nprofile: dev", nil, "memory", "2Gi"},
		"heap above the memory":       {"memory: 2Gi", map[string]string{"heap": "8Gi"}, "heap", "1Gi"},
		"version without ZooKeeper":   {"zookeeper: \"true\"", map[string]string{"version": "4.3.1"}, "version", "3.9.2"},
		"ZooKeeper with Kafka 4":      {"version: 4.3.1", map[string]string{"zookeeper": "zk"}, "zookeeper", "false"},
		"replication above the nodes": {"", map[string]string{"replication-factor": "5"}, "replication-factor", "3"},
		"in-sync above replication":   {"replication-factor: \"1\"", map[string]string{"min-insync-replicas": "2"}, "min-insync-replicas", "1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := map[string]string{}
			for k, v := range test.namespace {
				ns["metamorph.dev/"+k] = v
			}
			out := mustExpand(t, kafka(test.annotations, "{replicas: 3}"), ns)
			if got := out.Settings[test.key].Text; got != test.want {
				t.Errorf("%s is %s, want %s", test.key, got, test.want)
			}
			if !warned(out, "is used") {
				t.Errorf("no warning: %v", out.Warnings)
			}
		})
	}
}

// TestConfigOfANamespace holds for the role that knows its lines.
func TestConfigOfANamespace(t *testing.T) {
	t.Parallel()
	ns := map[string]string{"metamorph.dev/config": "message.max.bytes=7\nnum.partitions=9"}
	if out := mustExpand(t, kafka("", "{}"), ns); out.Settings["partitions"].Text != "9" || valueAt(out.Object, properties.Child("#message.max.bytes")) != "7" {
		t.Error(out.Settings["partitions"])
	}
	if out := mustExpand(t, set("zk", "role: zookeeper", "{replicas: 3}"), ns); !warned(out, "not for the role zookeeper") {
		t.Error(out.Warnings)
	}
	out := mustExpand(t, kafka("config: log.cleaner.threads=2", "{}"), ns)
	if out.Settings["partitions"].Text != "1" || valueAt(out.Object, properties.Child("#message.max.bytes")) != nil {
		t.Error("the config of two layers is mixed")
	}
}

// TestSecretsStayOut refuses passwords wherever they are tried, and never repeats one.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	for _, manifest := range []string{
		kafka("config: delegation.token.secret.key=hunter2hunter2", "{}"),
		kafka("version: 3.9.2\nconfig: zookeeper.ssl.keystore.password=hunter2hunter2", "{}"),
		set("zk", "role: zookeeper\nconfig: SASLAuthenticationProvider.superPassword=hunter2hunter2", "{}"),
		kafka("config: group.initial.rebalance.delay.ms=${dir:/etc/metamorph/sasl:client}", "{}"),
		kafka("secret: hunter2hunter2", "{}"), kafka("passphrase: hunter2hunter2", "{}"), kafka("mypass: hunter2hunter2", "{}"),
		kafka("jaas: x password=\"hunter2hunter2\"", "{}"), kafka("heap: password=hunter2hunter2", "{}"), kafka("password: 12345678", "{}"),
	} {
		_, err := expanded(t, manifest, nil)
		var invalid *mutate.Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("accepted: %s", manifest)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "12345678") {
			t.Errorf("repeated: %v", err)
		}
	}
}

// TestConfigDecidesOnly accepts lines that decide a setting only where the setting can be read from them.
func TestConfigDecidesOnly(t *testing.T) {
	t.Parallel()
	if _, err := expanded(t, kafka("config: log.retention.ms=${env:MM_ID}", "{}"), nil); err == nil || !strings.Contains(err.Error(), "decides metamorph.dev/retention") {
		t.Error(err)
	}
	mustExpand(t, kafka("retention-bytes: 1Gi\nconfig: log.retention.bytes=1073741824", "{}"), nil)
}

// TestManyEntries is quick, and its refusals are short, whatever is sent.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	const n = 20000
	env := make([]any, n)
	for i := range env {
		env[i] = object{"name": fmt.Sprint("V", i), "value": "x"}
	}
	obj := object{
		"metadata": object{"name": "events", "annotations": object{"metamorph.dev/role": "kafka"}},
		"spec":     object{"template": object{"spec": object{"containers": []any{object{"name": "side", "image": "a:1", "env": env}}}}},
	}
	raw := marshal(t, obj)
	out, err := mutate.Expand(expanderInput(raw))
	if err != nil {
		t.Fatal(err)
	}
	nothingLost(t, raw, out.Object)
	annotations := object{"metamorph.dev/role": "kafka"}
	for i := range n {
		annotations[fmt.Sprint("metamorph.dev/nonsense-", i)] = "x"
	}
	_, err = mutate.Expand(expanderInput(marshal(t, object{"metadata": object{"name": "events", "annotations": annotations}})))
	var invalid *mutate.Invalid
	if !errors.As(err, &invalid) || len(invalid.Problems) > 50 || !strings.Contains(err.Error(), "more problems") {
		t.Errorf("%d problems", len(invalid.Problems))
	}
}

// TestForged refuses objects that only say that they are expanded.
func TestForged(t *testing.T) {
	t.Parallel()
	const forged = `{"metadata":{"name":"events","labels":{"metamorph.dev/name":"events"},"annotations":{"metamorph.dev/role":"kafka","metamorph.dev/source":"{}",` +
		`"metamorph.dev/settings":"{\"role\":{\"value\":\"kafka\",\"from\":\"annotation\"}}"}},` +
		`"spec":{"selector":{"matchLabels":{"metamorph.dev/name":"events"}},"template":{"spec":{"containers":[{"name":"kafka","image":"evil"}]}}}}`
	if _, err := mutate.Expand(expanderInput([]byte(forged))); err == nil || !strings.Contains(err.Error(), "says that the object is expanded") {
		t.Error(err)
	}
	// A number of controllers that Metamorph never writes.
	obj := stored(t, kafka("", "{replicas: 3}"))
	var s map[string]any
	if err := json.Unmarshal([]byte(valueAt(obj, annotationPath("settings")).(string)), &s); err != nil {
		t.Fatal(err)
	}
	s["controllers"] = object{"value": "2000000000", "from": "rule"}
	leaf.Put(obj, annotationPath("settings"), string(marshal(t, s)))
	leaf.Put(obj, annotationPath("partitions"), "3")
	if _, err := mutate.Expand(expanderInput(marshal(t, obj))); err == nil || !strings.Contains(err.Error(), "recorded value that cannot be read") {
		t.Error(err)
	}
}

// TestUpdateDoesNoHarm makes changes that must not be refused, and must not bring others along.
func TestUpdateDoesNoHarm(t *testing.T) {
	t.Parallel()
	t.Run("a volume and its mount", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("", "{replicas: 3}"))
		in := sent(t, live, func(obj map[string]any) {
			leaf.Put(obj, at(append(pod, "volumes", "#scratch")...), object{"name": "scratch"})
			leaf.Put(obj, broker.Child("volumeMounts").Child("#/a"), object{"name": "scratch", "mountPath": "/a"})
		})
		if _, err := mutate.Expand(in); err != nil {
			t.Error(err)
		}
	})
	t.Run("a setting after scaling down", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("", "{replicas: 3}"))
		leaf.Put(live, at("spec", "replicas"), int64(2))
		out, err := mutate.Expand(sent(t, live, func(obj map[string]any) { leaf.Put(obj, annotationPath("heap"), "2Gi") }))
		if err != nil || out.Settings["replication-factor"].Text != "3" {
			t.Error(err)
		}
	})
	t.Run("a line of config adopts nothing else", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("", "{replicas: 3}"))
		in := sent(t, live, func(obj map[string]any) { leaf.Put(obj, annotationPath("config"), "message.max.bytes=7") })
		in.Namespace.Annotations = map[string]string{"metamorph.dev/retention": "1h", "metamorph.dev/profile": "production"}
		out, err := mutate.Expand(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := valueAt(out.Object, properties.Child("#log.retention.ms")); got != "604800000" {
			t.Errorf("retention %v", got)
		}
		if got := out.Settings["memory"].Text; got != "2Gi" {
			t.Errorf("memory %v", got)
		}
	})
	t.Run("a limit caps the rendered request", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("", "{replicas: 3}"))
		out, err := mutate.Expand(sent(t, live, func(obj map[string]any) {
			leaf.Put(obj, broker.Child("resources").Child("limits").Child("memory"), "1Gi")
		}))
		if err != nil {
			t.Fatal(err)
		}
		if got := valueAt(out.Object, broker.Child("resources").Child("requests").Child("memory")); got != "1Gi" {
			t.Errorf("request %v", got)
		}
	})
	t.Run("another certificate", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("tls-secret: a", "{replicas: 3}"))
		if _, err := mutate.Expand(sent(t, live, func(obj map[string]any) { leaf.Put(obj, annotationPath("tls-secret"), "b") })); err != nil {
			t.Error(err)
		}
	})
	t.Run("a label beside an annotation of another version", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("", "{replicas: 3}"))
		leaf.Put(live, annotationPath("from-the-future"), "x")
		if _, err := mutate.Expand(sent(t, live, func(obj map[string]any) { leaf.Put(obj, at("metadata", "labels", "a"), "b") })); err != nil {
			t.Error(err)
		}
	})
	t.Run("an edited file that has an owner", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("", "{replicas: 3}"))
		live["metadata"].(map[string]any)["managedFields"] = []any{object{"manager": "x", "fieldsV1": object{"f:spec": object{"f:replicas": object{}}}}}
		in := sent(t, live, func(obj map[string]any) {
			leaf.Put(obj, properties.Child("#num.partitions"), "9")
			obj["metadata"].(map[string]any)["managedFields"] = []any{object{"manager": "edit", "fieldsV1": object{"f:spec": object{"f:template": object{
				"f:metadata": object{"f:annotations": object{"f:metamorph.dev/server.properties": object{}}},
			}}}}}
		})
		if _, err := mutate.Expand(in); err == nil || !strings.Contains(err.Error(), "MM204") {
			t.Error(err)
		}
	})
	t.Run("our label changed", func(t *testing.T) {
		t.Parallel()
		live := stored(t, kafka("", "{replicas: 3}"))
		in := sent(t, live, func(obj map[string]any) { leaf.Put(obj, at("metadata", "labels", "metamorph.dev/name"), "x") })
		if _, err := mutate.Expand(in); err == nil || !strings.Contains(err.Error(), "MM108") {
			t.Error(err)
		}
	})
}

// TestRollback brings an older template back: its settings become the settings again, and the annotations follow.
func TestRollback(t *testing.T) {
	t.Parallel()
	first := stored(t, kafka("heap: 1Gi", "{replicas: 3}"))
	second, err := mutate.Expand(sent(t, first, func(obj map[string]any) { leaf.Put(obj, annotationPath("heap"), "2Gi") }))
	if err != nil {
		t.Fatal(err)
	}
	undo := func(obj map[string]any) {
		obj["spec"].(map[string]any)["template"] = leaf.Copy(first["spec"].(map[string]any)["template"])
	}
	out, err := mutate.Expand(sent(t, second.Object, undo))
	if err != nil {
		t.Fatal(err)
	}
	if diff := difference(t, first, out.Object); len(diff) > 0 {
		t.Errorf("not the first object again: %v", diff)
	}
	if out.Settings["heap"].Text != "1Gi" || out.Settings["memory"].Text != "2Gi" || !warned(out, "heap went back") {
		t.Errorf("%v %v", out.Settings["heap"], out.Warnings)
	}
	// And the same change again has its effect again.
	third, err := mutate.Expand(sent(t, out.Object, func(obj map[string]any) { leaf.Put(obj, annotationPath("heap"), "2Gi") }))
	if err != nil {
		t.Fatal(err)
	}
	if diff := difference(t, second.Object, third.Object); len(diff) > 0 {
		t.Errorf("not the second object again: %v", diff)
	}
	_, err = mutate.Expand(sent(t, second.Object, func(obj map[string]any) {
		undo(obj)
		leaf.Put(obj, annotationPath("sasl"), "none")
	}))
	if err == nil || !strings.Contains(err.Error(), "this is no rollback") {
		t.Error(err)
	}
}
