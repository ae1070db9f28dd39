package mutate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

// generator makes manifests that a user could write, most of them valid.
type generator struct{ *rand.Rand }

func (g generator) one(values ...any) any { return values[g.IntN(len(values))] }

func (g generator) chance(n int) bool { return g.IntN(n) == 0 }

type object = map[string]any

func (g generator) manifest() object {
	role := g.one("kafka", "kafka", "zookeeper").(string)
	annotations := object{"metamorph.dev/role": role, "example.com/owner": "team \"a\" <b> \u2028 ü"}
	some := func(odds int, key string, values ...any) {
		if g.chance(odds) {
			annotations["metamorph.dev/"+key] = g.one(values...)
		}
	}
	some(3, "heap", "1Gi", "1024m", "-Xmx512m -Xms256m", "3000000Ki")
	some(3, "memory", "2Gi", "8192Mi", "3G")
	some(4, "cpu", "250m", "2", "1500m")
	some(4, "storage", "20Gi", "1Ti", "5000000000")
	some(6, "storage-class", "fast")
	some(6, "profile", "dev", "production")
	some(5, "sasl", "plain", "scram-sha-256", "scram-sha-512", "none")
	some(6, "tls-secret", "certs")
	some(6, "metrics", "true", "false")
	some(8, "refresh", "a")
	if role == "kafka" {
		some(5, "zookeeper", "true", "false", "zk", "a:2181,b:2181/x")
		some(4, "partitions", "6")
		some(4, "replication-factor", "1", "2", "3")
		some(5, "min-insync-replicas", "1", "2")
		some(4, "retention", "1d12h", "unlimited", "90m")
		some(5, "config", "message.max.bytes=2097152\nnum.partitions=6", "log.cleaner.threads=2", "# a comment\ncompression.type=zstd\n")
	} else {
		some(5, "config", "maxClientCnxns=100", "snapCount=50000")
	}
	md := object{"name": g.one("events", "a", "orders-2").(string), "namespace": "shop", "annotations": annotations}
	if g.chance(3) {
		md["labels"] = object{"team": "a", "empty": ""}
	}
	obj := object{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": md}
	if !g.chance(6) {
		obj["spec"] = g.spec(role)
	}
	return obj
}

func (g generator) spec(role string) object {
	spec := object{}
	if !g.chance(4) {
		spec["replicas"] = g.one(1, 2, 3, 5)
	}
	if g.chance(5) {
		spec["revisionHistoryLimit"] = g.one(0, 3, 10)
	}
	if g.chance(6) {
		spec["updateStrategy"] = g.one(object{"type": "OnDelete"}, object{"rollingUpdate": object{"partition": 1}})
	}
	if g.chance(6) {
		spec["fieldFromTheFuture"] = object{"n": 9007199254740993, "deep": []any{object{"x": nil}, "y"}}
	}
	if g.chance(5) {
		spec["volumeClaimTemplates"] = []any{object{
			"metadata": object{"name": g.one("data", "extra")},
			"spec":     object{"accessModes": []any{"ReadWriteOnce"}, "resources": object{"requests": object{"storage": "1024Mi"}}},
		}}
	}
	pod := object{}
	if g.chance(2) {
		pod["containers"] = g.containers(role)
	}
	if g.chance(4) {
		pod["initContainers"] = []any{object{"name": "sysctl", "image": "busybox:1", "restartPolicy": "Always"}}
	}
	if g.chance(4) {
		pod["volumes"] = []any{object{"name": "scratch", "emptyDir": object{"sizeLimit": "1024Mi"}}, object{"name": "cm", "configMap": object{"name": "x"}}}
	}
	if g.chance(4) {
		pod["affinity"] = object{"podAntiAffinity": object{"requiredDuringSchedulingIgnoredDuringExecution": []any{object{"topologyKey": "kubernetes.io/hostname"}}}}
	}
	if g.chance(5) {
		pod["securityContext"] = object{"fsGroup": g.one(2000, 1000), "futureKnob": true}
	}
	if g.chance(5) {
		pod["topologySpreadConstraints"] = []any{object{"maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}}
	}
	if g.chance(5) {
		pod["terminationGracePeriodSeconds"] = g.one(30, 60)
	}
	template := object{}
	if len(pod) > 0 || g.chance(2) {
		template["spec"] = pod
	}
	if g.chance(4) {
		template["metadata"] = object{"labels": object{"version": "1"}, "annotations": object{"sidecar/inject": "yes"}}
	}
	if len(template) > 0 {
		spec["template"] = template
	}
	return spec
}

func (g generator) containers(role string) []any {
	var out []any
	if g.chance(2) {
		out = append(out, object{"name": "sidecar", "image": "proxy", "ports": []any{object{"containerPort": 8080, "name": g.one("http", "client")}}})
	}
	if g.chance(2) {
		c := object{"name": role, "image": "example.com/" + role + ":1"}
		if g.chance(2) {
			c["env"] = []any{object{"name": "A", "value": "1"}, object{"name": g.one("A", "B").(string), "value": "$(A)"}}
		}
		if g.chance(2) {
			c["resources"] = g.one(object{"limits": object{"memory": "1Gi"}}, object{"requests": object{"memory": "64Gi", "cpu": "4000m"}}, object{"limits": object{"example.com/gpu": 1}})
		}
		if g.chance(3) {
			c["livenessProbe"] = g.one(object{"httpGet": object{"port": 80}}, object{"periodSeconds": 10}, object{"initialDelaySeconds": 7})
		}
		if g.chance(4) {
			c["securityContext"] = g.one(object{"privileged": true}, object{"runAsUser": 0}, object{"capabilities": object{"add": []any{"SYS_ADMIN"}}})
		}
		if g.chance(4) {
			c["ports"] = []any{object{"containerPort": 9092, "name": "mine"}, object{"containerPort": 7000, "name": "internal"}}
		}
		if g.chance(4) {
			c["command"] = []any{"sleep", "1"}
		}
		out = append(out, c)
	}
	g.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func expanderInput(raw []byte) mutate.Input {
	return mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: "shop"}, ClusterUID: "0f1e", Version: "v0.0.0-test"}
}

// checkExpansion holds what is promised of every expansion that is not refused.
func checkExpansion(tb testing.TB, raw []byte, out *mutate.Output) {
	tb.Helper()
	expanded := marshal(tb, out.Object)
	p := out.Patch()
	if p != nil {
		// The library that the API server applies patches with.
		decoded, err := jsonpatch.DecodePatch(p)
		if err != nil {
			tb.Fatalf("patch: %v\n%s", err, p)
		}
		patched, err := decoded.Apply(raw)
		if err != nil {
			tb.Fatalf("the patch does not apply: %v\nobject %s\npatch %s", err, raw, p)
		}
		sameJSON(tb, "the patched object is not the expanded one", expanded, patched)
		if again := out.Patch(); !bytes.Equal(p, again) {
			tb.Error("the same operations give two texts")
		}
	}
	again, err := mutate.Expand(expanderInput(expanded))
	if err != nil {
		tb.Fatalf("an expansion is refused: %v", err)
	}
	if twice := marshal(tb, again.Object); !bytes.Equal(expanded, twice) {
		tb.Errorf("expanding twice is not expanding once:\n%s", cmp.Diff(string(expanded), string(twice)))
	}
	if len(again.Operations) > 0 {
		tb.Errorf("an expanded object is patched: %v", again.Operations)
	}
	// The webhook sees what was stored as an update of itself.
	update := expanderInput(expanded)
	update.OldObject = expanded
	same, err := mutate.Expand(update)
	if err != nil {
		tb.Fatalf("an update that changes nothing is refused: %v", err)
	}
	if len(same.Operations) > 0 || len(same.Warnings) > 0 {
		tb.Errorf("an update that changes nothing is patched or warned of: %v %v", same.Operations, same.Warnings)
	}
}

func sameJSON(tb testing.TB, what string, a, b []byte) {
	tb.Helper()
	x, errX := leaf.Decode(a)
	y, errY := leaf.Decode(b)
	if errX != nil || errY != nil {
		tb.Fatal(errX, errY)
	}
	if !leaf.Equal(x, y) {
		tb.Errorf("%s:\n%s", what, cmp.Diff(x, y))
	}
}

// nothingLost checks that every leaf a user wrote stands in the result with its value.
func nothingLost(tb testing.TB, raw []byte, result map[string]any) {
	tb.Helper()
	wrote, err := leaf.Decode(raw)
	if err != nil {
		tb.Fatal(err)
	}
	// What equals the API default is not taken for written.
	apidefaults.Apply(wrote)
	apidefaults.Prune(wrote)
	full, _ := leaf.Copy(result).(map[string]any)
	apidefaults.Apply(full)
	apidefaults.Prune(full)
	before, after := leaf.Of(wrote, nil), leaf.Of(full, nil)
	for _, p := range before.Paths() {
		v, _ := before.Get(p)
		if w, ok := after.Get(p); !ok || !leaf.Equal(v, w) {
			// A list that has a key twice is one leaf, and ours are appended to it.
			if l, is := v.([]any); is && ok {
				if m, is := w.([]any); is && len(m) >= len(l) && leaf.Equal(v, m[:len(l)]) {
					continue
				}
			}
			tb.Errorf("%s is lost: %v, now %v", p, v, w)
		}
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	const manifests = 400
	refused := 0
	for seed := range uint64(manifests) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		raw := marshal(t, g.manifest())
		out, err := mutate.Expand(expanderInput(raw))
		var invalid *mutate.Invalid
		switch {
		case errors.As(err, &invalid):
			refused++
			continue
		case err != nil:
			t.Fatalf("seed %d: %v", seed, err)
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			checkExpansion(t, raw, out)
			nothingLost(t, raw, out.Object)
		})
		if t.Failed() {
			t.Fatalf("manifest: %s", raw)
		}
	}
	if refused > manifests/2 {
		t.Errorf("%d of %d manifests were refused: the generator is of no use", refused, manifests)
	}
	t.Logf("%d manifests, %d refused", manifests, refused)
}

// FuzzExpand throws arbitrary JSON at the expansion: it may refuse, it may not crash, and what it accepts keeps all promises.
func FuzzExpand(f *testing.F) {
	for seed := range uint64(20) {
		g := generator{rand.New(rand.NewPCG(seed, 2))}
		f.Add(marshal(f, g.manifest()))
	}
	f.Add([]byte(`{"metadata":{"name":"e","annotations":{"metamorph.dev/role":"kafka"}}}`))
	f.Add([]byte(`{"metadata":{"name":"e","annotations":{"metamorph.dev/role":"kafka"}},"spec":{"template":{"spec":{"containers":[{"name":"kafka","image":"a","env":[{"name":"A"},{"name":"A"}]}]}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := mutate.Expand(expanderInput(raw))
		if err != nil || out.Role == "" {
			return
		}
		checkExpansion(t, raw, out)
		nothingLost(t, raw, out.Object)
	})
}
