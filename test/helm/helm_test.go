// Package helm proves for Helm 3 and Helm 4 what test/admission proves for kubectl and programs: that at admission it
// can be told what the user wrote. It is a module of its own because Helm's dependencies would become ours.
package helm_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	action3 "helm.sh/helm/v3/pkg/action"
	loader3 "helm.sh/helm/v3/pkg/chart/loader"
	kube3 "helm.sh/helm/v3/pkg/kube"
	action4 "helm.sh/helm/v4/pkg/action"
	loader4 "helm.sh/helm/v4/pkg/chart/loader"
	kube4 "helm.sh/helm/v4/pkg/kube"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/test/admission/recorder"
	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

var update = flag.Bool("update", false, "write the recorded requests to pkg/mutate/testdata/requests")

const (
	chart = "testdata/chart"
	// Building the control plane, which happens once, takes most of it.
	startTimeout = 20 * time.Minute
)

var (
	start     sync.Once
	startErr  error
	server    *apiserver.Server
	recording *recorder.Recorder
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	slog.SetDefault(slog.New(slog.DiscardHandler))
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	// As the real programs name themselves, and not after the binary of this test.
	kube3.ManagedFieldsManager, kube4.ManagedFieldsManager = "helm", "helm"
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func cluster(t *testing.T) *apiserver.Server {
	t.Helper()
	start.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		server, startErr = apiserver.Start(ctx, apiserver.Options{Progress: os.Stderr})
		if startErr == nil {
			recording, startErr = recorder.Start(ctx, server.Config, recorder.Options{Name: "metamorph"})
		}
	})
	if startErr != nil {
		t.Fatal(startErr)
	}
	return server
}

// The values of the releases, and what of a StatefulSet comes of them: Helm adds a label and two annotations, which
// are then as good as written by the user.
const (
	minimal   = `{}`
	overrides = `
annotations: {metamorph.dev/heap: 1Gi}
spec:
  replicas: 3
  revisionHistoryLimit: 10
  template:
    spec:
      terminationGracePeriodSeconds: 120
      containers:
      - name: kafka
        env: [{name: TZ, value: UTC}]
        resources: {limits: {memory: 2048Mi}}
`
)

func written(t *testing.T, namespace, values string) map[string]any {
	t.Helper()
	want := map[string]any{
		"labels": map[string]any{"app.kubernetes.io/managed-by": "Helm"},
		"annotations": map[string]any{
			"meta.helm.sh/release-name": "events", "meta.helm.sh/release-namespace": namespace, "metamorph.dev/role": "kafka",
		},
	}
	v := parse(t, values)
	if a, ok := v["annotations"].(map[string]any); ok {
		for k := range a {
			want["annotations"].(map[string]any)[k] = a[k]
		}
	}
	if spec, ok := v["spec"]; ok {
		want["spec"] = spec
	}
	return want
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// step is one helm command with these values.
type step func(t *testing.T, namespace string, values map[string]any)

func getter(t *testing.T, namespace string) *genericclioptions.ConfigFlags {
	t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &cluster(t).Kubeconfig, &namespace
	return flags
}

func helm3(t *testing.T, namespace string) *action3.Configuration {
	t.Helper()
	cfg := &action3.Configuration{}
	if err := cfg.Init(getter(t, namespace), namespace, "secret", func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func helm3Install(configure func(*action3.Install)) step {
	return func(t *testing.T, namespace string, values map[string]any) {
		t.Helper()
		c, err := loader3.Load(chart)
		if err != nil {
			t.Fatal(err)
		}
		install := action3.NewInstall(helm3(t, namespace))
		install.ReleaseName, install.Namespace = "events", namespace
		configure(install)
		if _, err := install.RunWithContext(t.Context(), c, values); err != nil {
			t.Fatal(err)
		}
	}
}

func helm3Upgrade(t *testing.T, namespace string, values map[string]any) {
	t.Helper()
	c, err := loader3.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	upgrade := action3.NewUpgrade(helm3(t, namespace))
	upgrade.Namespace = namespace
	if _, err := upgrade.RunWithContext(t.Context(), "events", c, values); err != nil {
		t.Fatal(err)
	}
}

func helm4(t *testing.T, namespace string) *action4.Configuration {
	t.Helper()
	cfg := action4.NewConfiguration(action4.ConfigurationSetLogger(slog.DiscardHandler))
	if err := cfg.Init(getter(t, namespace), namespace, "secret"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func helm4Install(configure func(*action4.Install)) step {
	return func(t *testing.T, namespace string, values map[string]any) {
		t.Helper()
		c, err := loader4.Load(chart)
		if err != nil {
			t.Fatal(err)
		}
		install := action4.NewInstall(helm4(t, namespace))
		install.ReleaseName, install.Namespace, install.WaitStrategy = "events", namespace, kube4.HookOnlyStrategy
		configure(install)
		if _, err := install.RunWithContext(t.Context(), c, values); err != nil {
			t.Fatal(err)
		}
	}
}

func helm4Upgrade(configure func(*action4.Upgrade)) step {
	return func(t *testing.T, namespace string, values map[string]any) {
		t.Helper()
		c, err := loader4.Load(chart)
		if err != nil {
			t.Fatal(err)
		}
		upgrade := action4.NewUpgrade(helm4(t, namespace))
		upgrade.Namespace, upgrade.WaitStrategy = namespace, kube4.HookOnlyStrategy
		configure(upgrade)
		if _, err := upgrade.RunWithContext(t.Context(), "events", c, values); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatTheUserWroteIsKnown(t *testing.T) {
	t.Parallel()
	cluster(t)
	edited := strings.NewReplacer("replicas: 3", "replicas: 5", "1Gi", "2Gi").Replace(overrides)
	withoutEnv := strings.Replace(overrides, "env: [{name: TZ, value: UTC}]", "env: []", 1)
	install3, install4 := helm3Install(func(*action3.Install) {}), helm4Install(func(*action4.Install) {})
	upgrade4 := helm4Upgrade(func(*action4.Upgrade) {})

	cases := map[string]struct {
		first         step
		values        string // of the first step
		then          step
		thenValues    string
		wantOperation admissionv1.Operation
		wantDryRun    bool
		// exact: a value that equals the default is known to be written, too.
		exact bool
		// wantMore is how many requests the last step sends before the one that counts.
		wantMore int
		// silent: the second step sends no request at all.
		silent bool
	}{
		"helm3-install":           {first: install3, values: minimal, wantOperation: admissionv1.Create},
		"helm3-install-overrides": {first: install3, values: overrides, wantOperation: admissionv1.Create},
		"helm3-install-dry-run": {
			first: helm3Install(func(i *action3.Install) { i.DryRun, i.DryRunOption = true, "server" }), values: minimal, silent: true,
		},
		"helm4-install":           {first: install4, values: minimal, wantOperation: admissionv1.Create, exact: true},
		"helm4-install-overrides": {first: install4, values: overrides, wantOperation: admissionv1.Create, exact: true},
		"helm4-install-client-side": {
			first:  helm4Install(func(i *action4.Install) { i.ServerSideApply = false }),
			values: overrides, wantOperation: admissionv1.Create,
		},
		"helm4-install-dry-run": {
			first: helm4Install(func(i *action4.Install) { i.DryRunStrategy = action4.DryRunServer }), values: minimal, silent: true,
		},
		"update-helm3-upgrade-unchanged": {
			first: install3, values: minimal, then: helm3Upgrade, thenValues: minimal, silent: true,
		},
		"update-helm3-upgrade": {
			first: install3, values: overrides, then: helm3Upgrade, thenValues: edited, wantOperation: admissionv1.Update,
		},
		"update-helm3-upgrade-removed": {
			first: install3, values: overrides, then: helm3Upgrade, thenValues: withoutEnv, wantOperation: admissionv1.Update,
		},
		"update-helm4-upgrade-unchanged": {
			first: install4, values: overrides, then: upgrade4, thenValues: overrides, wantOperation: admissionv1.Update, exact: true,
		},
		"update-helm4-upgrade": {
			first: install4, values: overrides, then: upgrade4, thenValues: edited, wantOperation: admissionv1.Update, exact: true,
		},
		"update-helm4-upgrade-removed": {
			first: install4, values: overrides, then: upgrade4, thenValues: withoutEnv, wantOperation: admissionv1.Update,
		},
		// A release of Helm 3 stays with client-side apply unless told otherwise.
		"update-helm4-upgrade-of-helm3": {
			first: install3, values: overrides, then: upgrade4, thenValues: edited, wantOperation: admissionv1.Update,
		},
		"update-helm4-upgrade-of-helm3-server-side": {
			first: install3, values: overrides,
			then:       helm4Upgrade(func(u *action4.Upgrade) { u.ServerSideApply, u.ForceConflicts = "true", true }),
			thenValues: edited, wantOperation: admissionv1.Update,
			// The first makes the manager of the fields an applier, and changes nothing else.
			wantMore: 1,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := kubernetes.NewForConfig(cluster(t).Config)
			if err != nil {
				t.Fatal(err)
			}
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if _, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			c.first(t, name, parse(t, c.values))
			before, values := 0, c.values
			if c.then != nil {
				before, values = len(recording.Requests(name, "")), c.thenValues
				c.then(t, name, parse(t, c.thenValues))
			}
			requests := recording.Requests(name, "")[before:]
			if c.silent {
				if len(requests) > 0 {
					t.Errorf("a request was sent: %s", requests[0].Raw)
				}
				return
			}
			if len(requests) != 1+c.wantMore {
				t.Fatalf("%d requests", len(requests))
			}
			q := requests[c.wantMore]
			if q.Operation != c.wantOperation || *q.DryRun != c.wantDryRun {
				t.Errorf("operation %s, dry run %t", q.Operation, *q.DryRun)
			}
			compareIntent(t, written(t, name, values), q, c.exact)
			compareFixture(t, name, q)
		})
	}
}

func compareIntent(t *testing.T, want map[string]any, q recorder.Request, exact bool) {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(q.Object.Raw, &object); err != nil {
		t.Fatal(err)
	}
	owned, err := recorder.Owned(object)
	if err != nil {
		t.Fatal(err)
	}
	got := recorder.Written(owned)
	if exact {
		raw, err := yaml.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		want = parse(t, strings.ReplaceAll(string(raw), "2048Mi", "2Gi"))
	} else {
		apidefaults.Prune(want)
		apidefaults.Prune(got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is owned is not what was written (-chart +recovered):\n%s", diff)
	}
}

func compareFixture(t *testing.T, name string, q recorder.Request) {
	t.Helper()
	if !*update && os.Getenv("KUBEBUILDER_ASSETS") != "" {
		return // the fixtures are those of one Kubernetes version, and this may be another
	}
	path := filepath.Join("..", "..", "pkg", "mutate", "testdata", "requests", name+".json")
	diff, err := q.CompareFixture(path, *update)
	if err != nil {
		t.Fatalf("%v; if the test is new, run it with -update", err)
	}
	if diff != "" {
		t.Errorf("the request is no longer what %s says; run the test with -update (-file +now):\n%s", filepath.Base(path), diff)
	}
}
