// Package policies_test runs the real program against a real API server, and has its policies tell users what they think.
package policies_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	running "github.com/metamorph-k8s/metamorph/test/program"
)

// program is metamorph serve in a control plane of its own.
type program struct{ *running.Program }

// start starts both, with a default StorageClass, and waits until policies judge.
func start(t *testing.T, flags ...string) *program {
	t.Helper()
	c := running.NewCluster(t)
	c.Must("apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}}\n"+
		"provisioner: example.com/disk\nreclaimPolicy: Retain\nallowVolumeExpansion: true\n", "apply", "-f", "-")
	p := c.Serve(flags...)
	// The API server needs a moment to call webhooks that it has just been told of.
	p.Eventually("judged", func() bool {
		_, report, err := p.Try(set("probe", "metamorph.dev/role: kafka, metamorph.dev/heap: 1900Mi, metamorph.dev/memory: 2Gi"), "create", "--dry-run=server", "-f", "-")
		return err != nil && strings.Contains(report, "MM301")
	})
	return &program{p}
}

// set is a manifest of a few lines.
func set(name, annotations string) string {
	return "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: " + name + ", namespace: default, annotations: {" + annotations + "}}\nspec: {replicas: 3}\n"
}

const plainSet = `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: NAME, namespace: default}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {containers: [{name: kafka, image: "bitnami/kafka:3.5.1"}]}
`

func contains(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q is not in\n%s", w, got)
		}
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	p := start(t, "--audit-interval", "1s")

	// A denial names the annotation, and a value that passes; with it, it passes.
	bad := "metamorph.dev/role: kafka, metamorph.dev/heap: 1900Mi, metamorph.dev/memory: 2Gi"
	report := p.Refused(set("events", bad), "apply", "-f", "-")
	contains(t, report, `The StatefulSet "events" is invalid`, "metadata.annotations[metamorph.dev/heap]", "this passes: metamorph.dev/heap: ", "(MM301)")
	fix := regexp.MustCompile(`this passes: metamorph.dev/heap: (\S+)`).FindStringSubmatch(report)
	if fix == nil {
		t.Fatalf("no fix in\n%s", report)
	}
	_, report = p.Must(set("events", strings.Replace(bad, "1900Mi", fix[1], 1)), "apply", "-f", "-")
	if strings.Contains(report, "Warning") {
		t.Errorf("a good manifest is warned of:\n%s", report)
	}

	// The same through server-side apply and update.
	contains(t, p.Refused("", "annotate", "--overwrite", "statefulset/events", "metamorph.dev/heap=1950Mi"), "MM301")

	// What a StatefulSet keeps for ever: said before the API server says it in its own way.
	report = p.Refused("", "patch", "statefulset/events", "--type=json", "-p", `[{"op":"replace","path":"/spec/volumeClaimTemplates/0/spec/resources/requests/storage","value":"99Gi"}]`)
	contains(t, report, "spec.volumeClaimTemplates: is not what it was", "metamorph.dev/storage with a larger size", "MM201")

	// A scale is judged, although a Scale has no annotations.
	contains(t, p.Refused("", "scale", "statefulset/events", "--replicas=1"), "spec.replicas", "MM326")
	p.Must("", "scale", "statefulset/events", "--replicas=4")

	// What nobody annotated passes.
	p.Must(strings.ReplaceAll(plainSet, "NAME", "forgotten"), "apply", "-f", "-")

	// The audit finds it all the same, and tells it in an event and in the metrics.
	p.Eventually("an event for the set that nobody annotated", func() bool {
		out, _, err := p.Try("", "get", "events", "-o", `jsonpath={range .items[?(@.involvedObject.name=="forgotten")]}{.message}{"\n"}{end}`)
		return err == nil && strings.Contains(out, "MM338")
	})
	p.Eventually("metrics of the audit", func() bool {
		_, text := p.Get("/metrics")
		return regexp.MustCompile(`(?m)^metamorph_audit_findings\{[^}]*code="MM338"[^}]*\} 1$`).MatchString(text)
	})
	_, text := p.Get("/metrics")
	contains(t, text, `metamorph_policy_findings_total{action="deny",code="MM301"}`, "metamorph_policies ")

	p.own()
	p.ratchet()
	p.deletions()

	p.Stop()
	// Dead, Metamorph keeps nobody from deleting, and nothing plain from anything.
	p.Must("", "delete", "statefulset", "events", "--wait=false")
	p.Must("", "delete", "statefulset", "forgotten", "--wait=false")
	p.Must(strings.ReplaceAll(plainSet, "NAME", "another"), "apply", "-f", "-")
	if _, _, err := p.Try(set("late", "metamorph.dev/role: kafka"), "apply", "-f", "-"); err == nil {
		t.Error("an annotated set was stored without Metamorph")
	}
}

const ownPolicy = `apiVersion: v1
kind: ConfigMap
metadata: {name: ours, namespace: metamorph-system, labels: {metamorph.dev/policies: ""}}
data:
  nodes.rego: |
    # METADATA
    # title: a name that the team does not take
    # custom:
    #   code: ACME-1
    package acme.names

    RULE contains "the name begins with x" if startswith(input.object.metadata.name, "x")
`

// own has policies in ConfigMaps: loaded, broken, mended, tuned, gone.
func (p *program) own() {
	p.Helper()
	x := set("xavier", "metamorph.dev/role: kafka")
	apply := func() (string, error) {
		_, report, err := p.Try(x, "create", "--dry-run=server", "-f", "-")
		return report, err
	}
	status := func() string {
		out, _ := p.Must("", "-n", "metamorph-system", "get", "configmap", "ours", "-o", `jsonpath={.metadata.annotations.metamorph\.dev/policies-status}`)
		return out
	}
	if report, err := apply(); err != nil {
		p.Fatalf("%v\n%s", err, report)
	}
	p.Must(strings.Replace(ownPolicy, "RULE", "deny", 1), "apply", "-f", "-")
	p.Eventually("the ConfigMap's policy denies", func() bool {
		report, err := apply()
		return err != nil && strings.Contains(report, "the name begins with x (ACME-1)")
	})
	p.Eventually("its status says so", func() bool { return strings.Contains(status(), `"ready":true`) })

	// Broken, its last good state stays, and the ConfigMap says what is wrong and where.
	p.Must(strings.Replace(ownPolicy, "RULE", "dney", 1), "apply", "-f", "-")
	p.Eventually("the status tells the mistake", func() bool {
		var s struct {
			Ready    bool
			Problems []struct {
				File    string
				Line    int
				Message string
			}
		}
		return json.Unmarshal([]byte(status()), &s) == nil && !s.Ready && len(s.Problems) == 1 && s.Problems[0].File == "nodes.rego" && s.Problems[0].Line == 5 &&
			strings.Contains(s.Problems[0].Message, "dney")
	})
	if report, err := apply(); err == nil {
		p.Errorf("the last good state is not in force\n%s", report)
	}
	p.Eventually("an event", func() bool {
		out, _, err := p.Try("", "-n", "metamorph-system", "get", "events", "-o", `jsonpath={range .items[?(@.involvedObject.name=="ours")]}{.reason}{"\n"}{end}`)
		return err == nil && strings.Contains(out, "PoliciesLoaded") && strings.Contains(out, "PoliciesRefused")
	})
	if _, text := p.Get("/metrics"); !strings.Contains(text, `metamorph_policy_source_ready{source="configmap ours"} 0`) {
		p.Error("the metrics do not tell of the broken source")
	}

	// Tuned by another ConfigMap, it warns.
	p.Must(`apiVersion: v1
kind: ConfigMap
metadata: {name: tuning, namespace: metamorph-system, labels: {metamorph.dev/policies: ""}}
data:
  config.yaml: |
    policies: {ACME-1: {action: warn}}
`, "apply", "-f", "-")
	p.Eventually("it warns", func() bool {
		report, err := apply()
		return err == nil && strings.Contains(report, "Warning: the name begins with x (ACME-1)")
	})
	p.Must("", "-n", "metamorph-system", "delete", "configmap", "ours", "tuning")
	p.Eventually("it is gone", func() bool { report, err := apply(); return err == nil && !strings.Contains(report, "ACME-1") })
}

// ratchet holds that what an object had before warns, and what is new denies.
func (p *program) ratchet() {
	p.Helper()
	p.Must(set("xerxes", "metamorph.dev/role: kafka"), "apply", "-f", "-")
	p.Must(strings.Replace(ownPolicy, "RULE", "deny", 1), "apply", "-f", "-")
	p.Eventually("the policy is in force", func() bool {
		_, _, err := p.Try(set("xavier", "metamorph.dev/role: kafka"), "create", "--dry-run=server", "-f", "-")
		return err != nil
	})
	_, report := p.Must("", "label", "statefulset/xerxes", "team=a")
	contains(p.T, report, "Warning: the name begins with x; it was so before (ACME-1)")
	report = p.Refused("", "annotate", "statefulset/xerxes", "metamorph.dev/heap=1900Mi", "metamorph.dev/memory=2Gi")
	contains(p.T, report, "MM301")
	if strings.Contains(report, "* the name begins") {
		p.Errorf("what was there before denies\n%s", report)
	}
	p.Must("", "-n", "metamorph-system", "delete", "configmap", "ours")
	p.Must("", "delete", "statefulset", "xerxes", "--wait=false")
}

// deletions holds that an ensemble that brokers use is kept, as long as they do.
func (p *program) deletions() {
	p.Helper()
	p.Must(set("keeper", "metamorph.dev/role: zookeeper"), "apply", "-f", "-")
	p.Must(set("brokers", `metamorph.dev/role: kafka, metamorph.dev/version: "3.9.2", metamorph.dev/zookeeper: keeper, metamorph.dev/sasl-secret: keeper-sasl`), "apply", "-f", "-")
	p.Eventually("the ensemble is kept", func() bool {
		_, report, err := p.Try("", "delete", "statefulset", "keeper", "--dry-run=server")
		return err != nil && strings.Contains(report, "MM328")
	})
	p.Must("", "delete", "statefulset", "brokers", "--wait=false")
	p.Eventually("nobody uses it any more", func() bool {
		_, _, err := p.Try("", "delete", "statefulset", "keeper", "--dry-run=server")
		return err == nil
	})
}
