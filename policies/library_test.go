package policies_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"github.com/metamorph-k8s/metamorph/pkg/check"
	"github.com/metamorph-k8s/metamorph/pkg/manifest"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/policytest"
	"github.com/metamorph-k8s/metamorph/pkg/review"
	"github.com/metamorph-k8s/metamorph/policies"
)

func loader() *policy.Loader {
	return policies.Loader()
}

// TestLibrary runs the fixtures and unit tests of every policy. Each line of Rego must be covered, and every decision be the
// same with OPA's rule indexing and early exit switched off.
func TestLibrary(t *testing.T) {
	t.Parallel()
	r := policytest.Runner{Loader: loader(), Builtin: true, Evaluate: sameWithoutOptimisations}
	report, err := r.Run(context.Background(), os.DirFS("."), "policies")
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range report.Results {
		if result.Failure != "" {
			t.Errorf("%s (%s): %s", result.Name, result.File, result.Failure)
		}
	}
	for _, c := range report.Coverage {
		if c.Percent < 100 {
			t.Errorf("%s is covered to %.1f %%; without line %v", c.File, c.Percent, c.Missed)
		}
	}
	t.Logf("%d tests, %d files of Rego", len(report.Results), len(report.Coverage))
}

func sameWithoutOptimisations(ctx context.Context, r *review.Reviewer, req *review.Request) error {
	naive := *r
	naive.Options.Naive = true
	if diff := cmp.Diff(naive.Review(ctx, req), r.Review(ctx, req), cmpopts.EquateEmpty()); diff != "" {
		return fmt.Errorf("another decision without rule indexing and early exit (-without +with)\n%s", diff)
	}
	return nil
}

// TestDescriptions holds that METADATA say what people need.
func TestDescriptions(t *testing.T) {
	t.Parallel()
	bundle, err := loader().Load(policies.Source())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range bundle.Policies {
		if p.Why == "" || p.Fix == "" || !strings.HasSuffix(p.Fix, ".") {
			t.Errorf("%s (%s): why %q, fix %q", p.Code, p.File, p.Why, p.Fix)
		}
		if len(p.Title) > 80 || strings.HasSuffix(p.Title, ".") {
			t.Errorf("%s (%s): the title %q is not a few words", p.Code, p.File, p.Title)
		}
		if dir := filepath.Base(filepath.Dir(p.File)); strings.ReplaceAll(dir, "-", "_") != p.Name || filepath.Base(p.File) != dir+".rego" {
			t.Errorf("%s: the package %s is in %s", p.Code, p.Name, p.File)
		}
	}
}

// cluster is what a good cluster holds.
const cluster = `
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: example.com/disk
reclaimPolicy: Retain
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast-ssd}
provisioner: example.com/disk
reclaimPolicy: Retain
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: big-hdd}
provisioner: example.com/disk
reclaimPolicy: Retain
allowVolumeExpansion: true
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota, namespace: default}
spec: {hard: {requests.memory: 1Ti, requests.cpu: "100", persistentvolumeclaims: "100"}}
status: {hard: {requests.memory: 1Ti, requests.cpu: "100", persistentvolumeclaims: "100"}, used: {requests.memory: 1Gi, requests.cpu: "1", persistentvolumeclaims: "1"}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: limits, namespace: default}
spec: {limits: [{type: Container, max: {memory: 64Gi}, min: {memory: 16Mi}}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: other, namespace: default}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: other}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: other, namespace: default}
spec: {maxReplicas: 9, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: events}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: elsewhere, namespace: bank, annotations: {metamorph.dev/role: kafka}}
spec: {replicas: 3}
`

// short are manifests of a few lines.
const short = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: three, annotations: {metamorph.dev/role: kafka}}
spec: {replicas: 3}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: five, annotations: {metamorph.dev/role: kafka}}
spec: {replicas: 5}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: four, annotations: {metamorph.dev/role: kafka}}
spec: {replicas: 4}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: laptop, annotations: {metamorph.dev/role: kafka, metamorph.dev/profile: dev}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: keeper, annotations: {metamorph.dev/role: zookeeper}}
spec: {replicas: 3}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: big, annotations: {metamorph.dev/role: kafka, metamorph.dev/profile: production}}
spec: {replicas: 3}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: database}
spec:
  selector: {matchLabels: {app: database}}
  template:
    metadata: {labels: {app: database}}
    spec: {containers: [{name: postgres, image: "postgres:17"}]}
`

// TestGoodManifestsAreSilent holds that nobody who does well is bothered.
func TestGoodManifestsAreSilent(t *testing.T) {
	t.Parallel()
	bundle, err := loader().Load(policies.Source())
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle})
	if err != nil {
		t.Fatal(err)
	}
	data, err := manifest.Parse("cluster.yaml", []byte(cluster))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"a few lines": short}
	examples, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatal(err, examples)
	}
	for _, file := range examples {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(file)] = string(text)
	}
	for name, text := range files {
		for what, data := range map[string][]manifest.Document{"alone": nil, "in a cluster": data} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				docs, err := manifest.Parse(name, []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				subjects, err := check.Check(context.Background(), docs, check.Options{Set: set, Data: data, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
				if err != nil {
					t.Fatal(err)
				}
				for i := range subjects {
					for j := range subjects[i].Findings {
						f := &subjects[i].Findings[j]
						t.Errorf("%s: %s %s: %s", subjects[i].Name, f.Action, review.Field(f), review.Sentence(f))
					}
					if subjects[i].Refused != nil {
						t.Error(subjects[i].Refused)
					}
				}
			})
		}
	}
}

// TestFormatted holds that the Rego is as opa fmt writes it.
func TestFormatted(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/*.rego")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := format.SourceWithOpts(file, text, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(want, text) {
			t.Errorf("%s is not formatted; opa fmt -w %s", file, file)
		}
	}
}
