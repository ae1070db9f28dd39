// Package policies_test runs the real program against a real API server, and has its policies tell users what they think.
package policies_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

// patience is how long something may take that takes a moment, on a machine that is busy with other things.
const patience = time.Minute

// program is a running metamorph serve, in a control plane of its own.
type program struct {
	*testing.T
	*apiserver.Server

	cmd    *exec.Cmd
	health string
	log    bytes.Buffer
}

func (p *program) try(stdin string, args ...string) (stdout, stderr string, err error) {
	return p.Kubectl(p.Context(), stdin, args...)
}

func (p *program) must(stdin string, args ...string) (stdout, stderr string) {
	p.Helper()
	out, report, err := p.try(stdin, args...)
	if err != nil {
		p.Fatalf("kubectl %v: %v\n%s", args, err, report)
	}
	return out, report
}

// refused returns what kubectl tells of a request that must not pass.
func (p *program) refused(stdin string, args ...string) string {
	p.Helper()
	_, report, err := p.try(stdin, args...)
	if err == nil {
		p.Fatalf("kubectl %v was not refused\n%s", args, report)
	}
	return report
}

func (p *program) eventually(what string, ask func() bool) {
	p.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ask() {
		select {
		case <-tick.C:
		case <-end:
			p.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// start builds and starts a control plane and the program.
func start(t *testing.T, flags ...string) *program {
	t.Helper()
	control, err := apiserver.Start(t.Context(), apiserver.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := control.Stop(); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(t.TempDir(), "metamorph")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", path, "github.com/metamorph-k8s/metamorph/cmd/webhook").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := &program{T: t, Server: control}
	p.must("", "create", "namespace", "metamorph-system")
	p.must("apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}}\n"+
		"provisioner: example.com/disk\nreclaimPolicy: Retain\nallowVolumeExpansion: true\n", "apply", "-f", "-")
	args := append([]string{
		"serve", "--kubeconfig", p.Kubeconfig, "--bind-address", "127.0.0.1", "--port", "0", "--health-address", "127.0.0.1:0",
		"--self-signed", "--self-signed-host", "127.0.0.1", "--register", "https://127.0.0.1", "--drain-delay", "0s",
	}, flags...)
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("log:\n%s", p.log.String())
		}
	})
	for lines := bufio.NewScanner(stdout); p.health == "" && lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "health "); ok {
			p.health = strings.TrimSuffix(url, "/readyz")
		}
	}
	p.eventually("ready", func() bool { code, _ := p.get("/readyz"); return code == http.StatusOK })
	// The API server needs a moment to call webhooks that it has just been told of.
	p.eventually("judged", func() bool {
		_, report, err := p.try(set("probe", "metamorph.dev/role: kafka, metamorph.dev/heap: 1900Mi, metamorph.dev/memory: 2Gi"), "create", "--dry-run=server", "-f", "-")
		return err != nil && strings.Contains(report, "MM301")
	})
	return p
}

func (p *program) get(path string) (int, string) {
	res, err := http.Get(p.health + path)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(raw)
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
	report := p.refused(set("events", bad), "apply", "-f", "-")
	contains(t, report, `The StatefulSet "events" is invalid`, "metadata.annotations[metamorph.dev/heap]", "this passes: metamorph.dev/heap: ", "(MM301)")
	fix := regexp.MustCompile(`this passes: metamorph.dev/heap: (\S+)`).FindStringSubmatch(report)
	if fix == nil {
		t.Fatalf("no fix in\n%s", report)
	}
	_, report = p.must(set("events", strings.Replace(bad, "1900Mi", fix[1], 1)), "apply", "-f", "-")
	if strings.Contains(report, "Warning") {
		t.Errorf("a good manifest is warned of:\n%s", report)
	}

	// The same through server-side apply and update.
	contains(t, p.refused("", "annotate", "--overwrite", "statefulset/events", "metamorph.dev/heap=1950Mi"), "MM301")

	// A scale is judged, although a Scale has no annotations.
	contains(t, p.refused("", "scale", "statefulset/events", "--replicas=1"), "spec.replicas", "MM326")
	p.must("", "scale", "statefulset/events", "--replicas=4")

	// What nobody annotated passes.
	p.must(strings.ReplaceAll(plainSet, "NAME", "forgotten"), "apply", "-f", "-")

	// The audit finds it all the same, and tells it in an event and in the metrics.
	p.eventually("an event for the set that nobody annotated", func() bool {
		out, _, err := p.try("", "get", "events", "-o", `jsonpath={range .items[?(@.involvedObject.name=="forgotten")]}{.message}{"\n"}{end}`)
		return err == nil && strings.Contains(out, "MM338")
	})
	p.eventually("metrics of the audit", func() bool {
		_, text := p.get("/metrics")
		return regexp.MustCompile(`(?m)^metamorph_audit_findings\{[^}]*code="MM338"[^}]*\} 1$`).MatchString(text)
	})
	_, text := p.get("/metrics")
	contains(t, text, `metamorph_policy_findings_total{action="deny",code="MM301"}`, "metamorph_policies ")

	p.own()
	p.ratchet()
	p.deletions()

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	// Dead, Metamorph keeps nobody from deleting, and nothing plain from anything.
	p.must("", "delete", "statefulset", "events", "--wait=false")
	p.must("", "delete", "statefulset", "forgotten", "--wait=false")
	p.must(strings.ReplaceAll(plainSet, "NAME", "another"), "apply", "-f", "-")
	if _, _, err := p.try(set("late", "metamorph.dev/role: kafka"), "apply", "-f", "-"); err == nil {
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
		_, report, err := p.try(x, "create", "--dry-run=server", "-f", "-")
		return report, err
	}
	status := func() string {
		out, _ := p.must("", "-n", "metamorph-system", "get", "configmap", "ours", "-o", `jsonpath={.metadata.annotations.metamorph\.dev/policies-status}`)
		return out
	}
	if report, err := apply(); err != nil {
		p.Fatalf("%v\n%s", err, report)
	}
	p.must(strings.Replace(ownPolicy, "RULE", "deny", 1), "apply", "-f", "-")
	p.eventually("the ConfigMap's policy denies", func() bool {
		report, err := apply()
		return err != nil && strings.Contains(report, "the name begins with x (ACME-1)")
	})
	p.eventually("its status says so", func() bool { return strings.Contains(status(), `"ready":true`) })

	// Broken, its last good state stays, and the ConfigMap says what is wrong and where.
	p.must(strings.Replace(ownPolicy, "RULE", "dney", 1), "apply", "-f", "-")
	p.eventually("the status tells the mistake", func() bool {
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
	p.eventually("an event", func() bool {
		out, _, err := p.try("", "-n", "metamorph-system", "get", "events", "-o", `jsonpath={range .items[?(@.involvedObject.name=="ours")]}{.reason}{"\n"}{end}`)
		return err == nil && strings.Contains(out, "PoliciesLoaded") && strings.Contains(out, "PoliciesRefused")
	})
	if _, text := p.get("/metrics"); !strings.Contains(text, `metamorph_policy_source_ready{source="configmap ours"} 0`) {
		p.Error("the metrics do not tell of the broken source")
	}

	// Tuned by another ConfigMap, it warns.
	p.must(`apiVersion: v1
kind: ConfigMap
metadata: {name: tuning, namespace: metamorph-system, labels: {metamorph.dev/policies: ""}}
data:
  config.yaml: |
    policies: {ACME-1: {action: warn}}
`, "apply", "-f", "-")
	p.eventually("it warns", func() bool {
		report, err := apply()
		return err == nil && strings.Contains(report, "Warning: the name begins with x (ACME-1)")
	})
	p.must("", "-n", "metamorph-system", "delete", "configmap", "ours", "tuning")
	p.eventually("it is gone", func() bool { report, err := apply(); return err == nil && !strings.Contains(report, "ACME-1") })
}

// ratchet holds that what an object had before warns, and what is new denies.
func (p *program) ratchet() {
	p.Helper()
	p.must(set("xerxes", "metamorph.dev/role: kafka"), "apply", "-f", "-")
	p.must(strings.Replace(ownPolicy, "RULE", "deny", 1), "apply", "-f", "-")
	p.eventually("the policy is in force", func() bool {
		_, _, err := p.try(set("xavier", "metamorph.dev/role: kafka"), "create", "--dry-run=server", "-f", "-")
		return err != nil
	})
	_, report := p.must("", "label", "statefulset/xerxes", "team=a")
	contains(p.T, report, "Warning: the name begins with x; it was so before (ACME-1)")
	report = p.refused("", "annotate", "statefulset/xerxes", "metamorph.dev/heap=1900Mi", "metamorph.dev/memory=2Gi")
	contains(p.T, report, "MM301")
	if strings.Contains(report, "* the name begins") {
		p.Errorf("what was there before denies\n%s", report)
	}
	p.must("", "-n", "metamorph-system", "delete", "configmap", "ours")
	p.must("", "delete", "statefulset", "xerxes", "--wait=false")
}

// deletions holds that an ensemble that brokers use is kept, and that whole namespaces go.
func (p *program) deletions() {
	p.Helper()
	p.must(set("keeper", "metamorph.dev/role: zookeeper"), "apply", "-f", "-")
	p.must(set("brokers", `metamorph.dev/role: kafka, metamorph.dev/version: "3.9.2", metamorph.dev/zookeeper: keeper, metamorph.dev/sasl-secret: keeper-sasl`), "apply", "-f", "-")
	p.eventually("the ensemble is kept", func() bool {
		_, report, err := p.try("", "delete", "statefulset", "keeper", "--dry-run=server")
		return err != nil && strings.Contains(report, "MM328")
	})
	p.must("", "delete", "statefulset", "brokers", "--wait=false")
	p.eventually("nobody uses it any more", func() bool {
		_, _, err := p.try("", "delete", "statefulset", "keeper", "--dry-run=server")
		return err == nil
	})
}
