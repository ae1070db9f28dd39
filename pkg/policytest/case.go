package policytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// Case is one fixture: an object, what is done with it, and what the policy is to say.
type Case struct {
	Name string `json:"name"`
	// Expect is the worst that the policy finds: deny, warn, audit, or allow for nothing.
	Expect string `json:"expect"`

	Sample `json:",inline"`

	// Old is the stored object; with it the operation is UPDATE.
	Old *Sample `json:"old,omitempty"`
	// Operation; default CREATE, or UPDATE where there is an old object.
	Operation policy.Operation `json:"operation,omitempty"`
	Namespace struct {
		Name        string            `json:"name,omitempty"`
		Labels      map[string]string `json:"labels,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	} `json:"namespace,omitempty"`
	// Cluster holds further objects, for data.cluster. StatefulSets among them are expanded.
	Cluster []map[string]any `json:"cluster,omitempty"`
	// Know names kinds that are looked at although there is no object of them.
	Know []string `json:"know,omitempty"`
	// User sends the request.
	User string `json:"user,omitempty"`
	// Now is the time, RFC 3339.
	Now string `json:"now,omitempty"`
	// Parameters of the policy.
	Parameters map[string]any `json:"parameters,omitempty"`

	// What one of the findings has to say, where it matters: a part of the message, the field, the annotation without
	// prefix, and the fix; "none" for no fix that works.
	Message    string `json:"message,omitempty"`
	Field      string `json:"field,omitempty"`
	Annotation string `json:"annotation,omitempty"`
	Fix        string `json:"fix,omitempty"`
}

// Sample is a StatefulSet in short: the parts that matter, of an otherwise valid three-line manifest.
type Sample struct {
	// Role is kafka where it is left out; plain makes an object that nobody annotated, which is not expanded.
	Role string `json:"role,omitempty"`
	// Object is the object's name; events where it is left out.
	Object      string            `json:"object,omitempty"`
	Replicas    *int64            `json:"replicas,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"` // keys without prefix are Metamorph's
	Labels      map[string]string `json:"labels,omitempty"`
	Spec        map[string]any    `json:"spec,omitempty"`
	// Patch is a JSON Patch of the expanded object: what another webhook, or an older version, may have made of it.
	Patch []map[string]any `json:"patch,omitempty"`
}

const caseNamespace = "shop"

func (s *Sample) manifest(namespace string) (map[string]any, error) {
	notes := map[string]any{}
	for k, v := range s.Annotations {
		if !strings.Contains(k, "/") {
			k = setting.Prefix + k
		}
		notes[k] = v
	}
	role := s.Role
	if role == "" {
		role = string(setting.Kafka)
	}
	if role != policy.Plain {
		notes[setting.Prefix+"role"] = role
	}
	name := s.Object
	if name == "" {
		name = "events"
	}
	spec := map[string]any{}
	for k, v := range s.Spec {
		spec[k] = v
	}
	switch {
	case s.Replicas != nil:
		spec["replicas"] = *s.Replicas
	case spec["replicas"] == nil && role != policy.Plain:
		spec["replicas"] = 3
	}
	labels := map[string]any{}
	for k, v := range s.Labels {
		labels[k] = v
	}
	md := map[string]any{"name": name, "namespace": namespace, "annotations": notes}
	if len(labels) > 0 {
		md["labels"] = labels
	}
	return decode(map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": md, "spec": spec})
}

// input is the shared part of every expansion of a case.
func (c *Case) input(namespace string) mutate.Input {
	return mutate.Input{
		Namespace: mutate.Namespace{Name: namespace, Annotations: c.annotations()}, ClusterUID: "00000000-0000-0000-0000-000000000000", Version: "v0.0.0-test",
	}
}

func (c *Case) annotations() map[string]string {
	out := map[string]string{}
	for k, v := range c.Namespace.Annotations {
		if !strings.Contains(k, "/") {
			k = setting.Prefix + k
		}
		out[k] = v
	}
	return out
}

// expand makes of a sample what would be stored.
func (c *Case) expand(s *Sample, namespace string, old map[string]any) (map[string]any, error) {
	obj, err := s.manifest(namespace)
	if err != nil {
		return nil, err
	}
	if s.Role != policy.Plain {
		in := c.input(namespace)
		in.Object = mutate.Encode(obj)
		var out *mutate.Output
		if old != nil && mutate.Inspect(old).Expanded {
			in.OldObject = mutate.Encode(old)
			md, _ := obj["metadata"].(map[string]any)
			source := map[string]any{"metadata": map[string]any{"annotations": md["annotations"]}, "spec": obj["spec"]}
			if l, ok := md["labels"]; ok {
				source["metadata"].(map[string]any)["labels"] = l //nolint:forcetypeassert // made a line above
			}
			out, err = mutate.Revise(in, source)
		} else {
			out, err = mutate.Expand(in)
		}
		if err != nil {
			return nil, err
		}
		obj = out.Object
	}
	if len(s.Patch) == 0 {
		return obj, nil
	}
	raw, err := json.Marshal(s.Patch)
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	patched, err := patch.Apply(mutate.Encode(mutate.Defaulted(obj)))
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	return mutate.Decode(patched)
}

// Request is the request that the case describes, and the cluster around it.
func (c *Case) Request() (*review.Request, *policy.Inventory, error) {
	namespace := c.Namespace.Name
	if namespace == "" {
		namespace = caseNamespace
	}
	req := &review.Request{
		Operation: c.Operation, User: policy.User{Name: c.User}, ClusterUID: c.input(namespace).ClusterUID,
		Namespace: policy.Namespace{Name: namespace, Labels: c.Namespace.Labels, Annotations: c.annotations()},
		Now:       time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	var err error
	if c.Now != "" {
		if req.Now, err = time.Parse(time.RFC3339, c.Now); err != nil {
			return nil, nil, fmt.Errorf("now: %w", err)
		}
	}
	if c.Old != nil {
		if req.OldObject, err = c.expand(c.Old, namespace, nil); err != nil {
			return nil, nil, fmt.Errorf("old: %w", err)
		}
	}
	switch {
	case req.Operation == "" && c.Old != nil:
		req.Operation = policy.Update
	case req.Operation == "":
		req.Operation = policy.Create
	}
	switch req.Operation {
	case policy.Scale:
		if c.Old == nil || c.Replicas == nil {
			return nil, nil, errors.New("SCALE needs old, and replicas")
		}
		if req.Object, err = mutate.Decode(mutate.Encode(req.OldObject)); err != nil {
			return nil, nil, err
		}
		req.Object["spec"].(map[string]any)["replicas"] = *c.Replicas //nolint:forcetypeassert // an expanded object has a spec
	default:
		if req.Object, err = c.expand(&c.Sample, namespace, req.OldObject); err != nil {
			return nil, nil, err
		}
	}
	inventory, err := c.inventory()
	return req, inventory, err
}

func (c *Case) inventory() (*policy.Inventory, error) {
	inventory := &policy.Inventory{}
	inventory.Know(c.Know...)
	for i, o := range c.Cluster {
		obj, err := decode(o)
		if err != nil {
			return nil, fmt.Errorf("cluster[%d]: %w", i, err)
		}
		if obj["kind"] == "StatefulSet" {
			md, _ := obj["metadata"].(map[string]any)
			namespace, _ := md["namespace"].(string)
			in := c.input(namespace)
			in.Object = mutate.Encode(obj)
			out, err := mutate.Expand(in)
			if err != nil {
				return nil, fmt.Errorf("cluster[%d]: %w", i, err)
			}
			obj = out.Object
		}
		known, err := review.Observe(inventory, obj)
		if err != nil {
			return nil, fmt.Errorf("cluster[%d]: %w", i, err)
		}
		if !known {
			return nil, fmt.Errorf("cluster[%d]: %v %v is no kind that policies see; they see %s", i, obj["apiVersion"], obj["kind"], strings.Join(review.Known(), ", "))
		}
	}
	return inventory, nil
}

// compare holds findings against what is expected.
func (c *Case) compare(findings []policy.Finding) error {
	got := "allow"
	if w := policy.Worst(findings); w > policy.Off {
		got = w.String()
	}
	lines := make([]string, 0, len(findings))
	for i := range findings {
		f := &findings[i]
		lines = append(lines, fmt.Sprintf("%s %s: %s", f.Action, review.Field(f), review.Sentence(f)))
	}
	what := strings.Join(lines, "\n")
	if got != c.Expect {
		return errors.New(strings.TrimSuffix(fmt.Sprintf("want %s, got %s\n%s", c.Expect, got, what), "\n"))
	}
	if c.Message == "" && c.Field == "" && c.Annotation == "" && c.Fix == "" {
		return nil
	}
	for i := range findings {
		f := &findings[i]
		fix := f.Fix
		if fix == "" {
			fix = "none"
		}
		if strings.Contains(f.Message, c.Message) && (c.Field == "" || c.Field == f.Field) && (c.Annotation == "" || c.Annotation == f.Annotation) && (c.Fix == "" || c.Fix == fix) {
			return nil
		}
	}
	var wanted []string
	for _, w := range [][2]string{{"message", c.Message}, {"field", c.Field}, {"annotation", c.Annotation}, {"fix", c.Fix}} {
		if w[1] != "" {
			wanted = append(wanted, fmt.Sprintf("%s %q", w[0], w[1]))
		}
	}
	return fmt.Errorf("no finding has %s\n%s", strings.Join(wanted, ", "), what)
}

func unmarshalStrict(text []byte, into any) error {
	err := yaml.UnmarshalStrict(text, into)
	if err == nil {
		return nil
	}
	return errors.New(strings.NewReplacer("error unmarshaling JSON: while decoding JSON: ", "", "error converting YAML to JSON: ", "").Replace(err.Error()))
}
