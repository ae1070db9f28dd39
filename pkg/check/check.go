// Package check judges manifests without a cluster, as admission would judge them in one: it expands them, and holds what
// comes out against the policies.
package check

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/report"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// Options of a check.
type Options struct {
	manifest.Options

	// Set holds the policies.
	Set *policy.Set
	// Data are further objects of the cluster: Namespaces, StorageClasses, other StatefulSets.
	Data []manifest.Document
	// Now is the time that expiries are held against.
	Now time.Time
	// Failed is told of policies that could not be evaluated, with the details; nil is told nothing.
	Failed func(p *policy.Policy, err error)
}

// Subject is one StatefulSet that was checked.
type Subject struct {
	manifest.Outcome

	// Findings of the policies; none if the expansion refused it.
	Findings []policy.Finding
}

// Check judges every StatefulSet in the documents. The error is for documents that cannot be understood.
func Check(ctx context.Context, docs []manifest.Document, o Options) ([]Subject, error) {
	o.All = true
	inventory := &policy.Inventory{}
	known, err := manifest.Learn(slices.Concat(o.Data, docs))
	if err != nil {
		return nil, err
	}
	_, outcomes, err := manifest.Expand(slices.Concat(o.Data, docs), o.Options)
	if err != nil {
		return nil, err
	}
	if err := observe(inventory, slices.Concat(o.Data, docs), outcomes, o.Namespace); err != nil {
		return nil, err
	}
	engine := &policy.Engine{Inventory: inventory}
	engine.Use(o.Set)
	reviewer := &review.Reviewer{Engine: engine, Version: o.Version, Options: policy.Options{Failed: o.Failed}}
	var out []Subject
	for _, outcome := range outcomes {
		if outcome.Document < len(o.Data) {
			continue
		}
		outcome.Document -= len(o.Data)
		s := Subject{Outcome: outcome}
		if outcome.Output != nil {
			ns := known.Namespaces[outcome.Namespace]
			s.Findings = reviewer.Review(ctx, &review.Request{
				Operation: policy.Create, Object: outcome.Output.Object, Profiles: known.Profiles, ClusterUID: o.ClusterUID, Now: o.Now,
				Namespace: policy.Namespace{Name: outcome.Namespace, Labels: ns.Labels, Annotations: ns.Annotations},
			})
		}
		out = append(out, s)
	}
	return out, nil
}

// observe puts everything that policies may see of other objects into the inventory.
func observe(inventory *policy.Inventory, docs []manifest.Document, outcomes []manifest.Outcome, namespace string) error {
	for i := range outcomes {
		if out := outcomes[i].Output; out != nil && out.Role != "" {
			obj := maps.Clone(out.Object)
			md, _ := obj["metadata"].(map[string]any)
			md = maps.Clone(md)
			md["namespace"] = outcomes[i].Namespace
			obj["metadata"] = md
			if _, err := review.Observe(inventory, obj); err != nil {
				return fmt.Errorf("%s: %w", outcomes[i].Where, err)
			}
		}
	}
	return manifest.Each(docs, func(where string, _, _ int, raw []byte) error {
		obj, err := mutate.Decode(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if obj["kind"] == "StatefulSet" {
			return nil
		}
		if md, ok := obj["metadata"].(map[string]any); ok && md["namespace"] == nil && namespace != "" {
			md["namespace"] = namespace
		}
		if _, err := review.Observe(inventory, obj); err != nil {
			return fmt.Errorf("%s: %v: %w", where, obj["kind"], err)
		}
		return nil
	})
}

// Fixes are the annotations, without prefix, that would cure what has a fix; "replicas" stands for spec.replicas.
func (s *Subject) Fixes() map[string]string {
	out := map[string]string{}
	for i := range s.Findings {
		if f := &s.Findings[i]; f.Fix != "" {
			if _, ok := out[f.Annotation]; !ok {
				out[f.Annotation] = f.Fix
			}
		}
	}
	return out
}

// Report makes a report of what was found. The documents are those that were checked.
func Report(docs []manifest.Document, subjects []Subject, set *policy.Set, version string) report.Report {
	r := report.Report{Version: version, Findings: []report.Finding{}}
	policies := map[string]*policy.Policy{}
	for _, p := range set.Policies {
		policies[p.Code] = p
	}
	for i := range subjects {
		s := &subjects[i]
		d := docs[s.Document]
		object := report.Object{Name: "StatefulSet " + path.Join(s.Namespace, s.Name), File: d.File, Line: d.Line}
		r.Objects = append(r.Objects, object)
		add := func(f report.Finding) {
			f.Object, f.File, f.Line = object.Name, object.File, object.Line
			r.Findings = append(r.Findings, f)
		}
		if s.Refused != nil {
			for _, p := range s.Refused.Problems {
				f := report.Finding{Code: string(p.Code), Severity: policy.Deny.String(), Field: p.Field, Message: withoutCode(p.Message(), string(p.Code)), Annotation: annotation(p.Field)}
				for _, c := range setting.Codes {
					if c.Code == p.Code {
						f.Title, f.Help = c.Title, c.Help
					}
				}
				add(f)
			}
		}
		for j := range s.Findings {
			g := &s.Findings[j]
			f := report.Finding{Code: g.Code, Severity: g.Action.String(), Field: review.Field(g), Message: g.Message, Fix: g.Fix, Title: g.Title}
			if g.Annotation != "" {
				f.Annotation = annotation(f.Field)
				if g.Field != "" {
					f.Message += "; see " + g.Field
				}
			}
			if p := policies[g.Code]; p != nil {
				f.Help = p.Fix
			}
			if g.Exception != nil {
				f.Exception = g.Exception.Reason
			}
			add(f)
		}
	}
	return r
}

func withoutCode(message, code string) string { return strings.TrimSuffix(message, " ("+code+")") }

// annotation is the key of a field that is one of our annotations; spec.replicas stands for itself.
func annotation(field string) string {
	key, ok := strings.CutPrefix(field, "metadata.annotations[")
	if !ok {
		if field == "spec.replicas" {
			return field
		}
		return ""
	}
	return strings.TrimSuffix(key, "]")
}
