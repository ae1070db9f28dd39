// Package examples_test keeps the examples working: every StatefulSet in them is expanded.
package examples_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	k8syaml "sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
	"github.com/metamorph-k8s/metamorph/test/podsecurity"
)

// variables are those of the Terraform module that Metamorph replaces. The number of nodes is spec.replicas.
var variables = []string{
	"kafka_node_replica_count", "kafka_pv_volume_size", "storage_class_name", "heap_size_option",
	"default_partition_per_topic", "default_replication_factor_per_topic",
	"zookeeper_enabled", "zookeper_node_replica_count", "zookeper_pv_volume_size",
	"sasl_inter_broker_password", "metrics_enabled", "values_yaml",
}

func TestExamplesExpand(t *testing.T) {
	for _, file := range files(t) {
		t.Run(file, func(t *testing.T) {
			sets := expand(t, file)
			if len(sets) == 0 {
				t.Fatal("has no StatefulSet")
			}
			for _, set := range sets {
				if set.out.Role == "" {
					t.Errorf("%s: left alone, it has no role", set.name)
					continue
				}
				for _, w := range set.out.Warnings {
					t.Logf("%s: %s", set.name, w)
				}
				for _, problem := range restricted(t, set.out.Object) {
					t.Errorf("%s: Pod Security restricted forbids %s", set.name, problem)
				}
			}
		})
	}
}

func TestExamplesExpandTwice(t *testing.T) {
	for _, file := range files(t) {
		for _, set := range expand(t, file) {
			t.Run(set.name, func(t *testing.T) {
				in := set.in
				in.Object = marshal(t, set.out.Object)
				again, err := mutate.Expand(in)
				if err != nil {
					t.Fatal(err)
				}
				if len(again.Operations) > 0 {
					t.Errorf("the expanded object is expanded again: %v", again.Operations)
				}
			})
		}
	}
}

// The example for users of the Terraform module has all of its variables, and says so beside each.
func TestTerraformModuleIsComplete(t *testing.T) {
	const file = "terraform-module.yaml"
	text := string(read(t, file))
	var replaced []string
	for _, d := range settings.All {
		info := d.Info()
		for _, variable := range strings.FieldsFunc(info.Replaces, func(c rune) bool { return c == ',' || c == ' ' }) {
			replaced = append(replaced, variable)
			if !strings.Contains(text, setting.Prefix+info.Key+":") {
				t.Errorf("%s is replaced by %s%s, which %s does not set", variable, setting.Prefix, info.Key, file)
			}
		}
	}
	known := strings.Join(append(replaced, "kafka_node_replica_count"), " ")
	for _, variable := range variables {
		if !strings.Contains(text, "# "+variable) {
			t.Errorf("%s does not mention %s", file, variable)
		}
		if !strings.Contains(known, variable) {
			t.Errorf("no setting says that it replaces %s", variable)
		}
	}
}

type expanded struct {
	name string
	in   mutate.Input
	out  *mutate.Output
}

// expand expands the StatefulSets of a file, with the namespaces and profiles that stand in the same file.
func expand(t *testing.T, file string) []expanded {
	t.Helper()
	profiles := map[string]map[string]string{}
	namespaces := map[string]mutate.Namespace{}
	var sets []map[string]any
	for _, doc := range documents(t, file) {
		switch doc["kind"] {
		case "StatefulSet":
			sets = append(sets, doc)
		case "Namespace":
			var ns corev1.Namespace
			convert(t, doc, &ns)
			namespaces[ns.Name] = mutate.Namespace{Name: ns.Name, Annotations: ns.Annotations}
		case "ConfigMap":
			var cm corev1.ConfigMap
			convert(t, doc, &cm)
			if name := cm.Labels[setting.Prefix+"profile"]; name != "" {
				profiles[name] = cm.Data
			}
		}
	}
	var out []expanded
	for _, doc := range sets {
		var set appsv1.StatefulSet
		convert(t, doc, &set)
		if set.Namespace == "" {
			set.Namespace = "default"
		}
		ns, ok := namespaces[set.Namespace]
		if !ok {
			ns.Name = set.Namespace
		}
		// As the API server does before it calls a webhook.
		apidefaults.Apply(doc)
		in := mutate.Input{Object: marshal(t, doc), Namespace: ns, Profiles: profiles, ClusterUID: "test", Version: "v0.0.0"}
		result, err := mutate.Expand(in)
		if err != nil {
			t.Fatalf("%s: %v", set.Name, err)
		}
		out = append(out, expanded{set.Name, in, result})
	}
	return out
}

func restricted(t *testing.T, object map[string]any) []string {
	t.Helper()
	defaulted := runtime.DeepCopyJSON(object)
	apidefaults.Apply(defaulted)
	var set appsv1.StatefulSet
	convert(t, defaulted, &set)
	problems, err := podsecurity.Restricted(&set.Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	return problems
}

func files(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*.yaml")
	if err != nil || len(found) == 0 {
		t.Fatal("no examples:", err)
	}
	return found
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func documents(t *testing.T, file string) []map[string]any {
	t.Helper()
	var out []map[string]any
	reader := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(string(read(t, file)))))
	for {
		raw, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := k8syaml.UnmarshalStrict(raw, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if doc != nil {
			out = append(out, doc)
		}
	}
}

func convert(t *testing.T, doc map[string]any, into any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(doc, into, true); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
