package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
)

// Companions returns what the expanded StatefulSets need beside them, as the controller in a cluster makes it but for the owner
// references; an ensemble is expanded, and has companions of its own. What the documents have already is left out. Secrets are
// not among them: notes name them, and what else only a cluster can decide. The outcomes are those of the ensembles.
func Companions(docs []Document, outcomes []Outcome, o Options) (more []Document, ensembles []Outcome, notes []string, err error) {
	c := companions{Options: o, there: map[string]bool{}}
	if c.Namespace == "" {
		c.Namespace = defaultNamespace
	}
	err = Each(docs, func(_ string, _, _ int, raw []byte) error {
		name, namespace := identity(raw)
		h := headerOf(raw)
		c.there[c.key(h.APIVersion, h.Kind, namespace, name)] = true
		return nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	defaults, err := Learn(docs)
	if err != nil {
		return nil, nil, nil, err
	}
	for len(outcomes) > 0 {
		before := len(c.docs)
		for _, out := range outcomes {
			if err := c.add(out); err != nil {
				return nil, nil, nil, err
			}
		}
		// Ensembles among what was added are expanded by what the documents say of their namespace.
		x := expander{Options: c.Options, defaults: defaults}
		for i := before; i < len(c.docs); i++ {
			d := &c.docs[i]
			x.document, x.item = i, -1
			if raw, changed := x.expand(d.Where(), d.JSON); changed {
				d.JSON = raw
			}
		}
		if len(x.errs) > 0 {
			return nil, nil, nil, x.errs[0]
		}
		outcomes = x.outcomes
		ensembles = append(ensembles, outcomes...)
	}
	return c.docs, ensembles, c.notes, nil
}

type companions struct {
	Options

	there map[string]bool
	docs  []Document
	notes []string
}

func (c *companions) key(apiVersion, kind, namespace, name string) string {
	if namespace == "" {
		namespace = c.Namespace
	}
	return strings.Join([]string{apiVersion, kind, namespace, name}, "/")
}

func (c *companions) add(out Outcome) error {
	if out.Output == nil {
		return nil
	}
	cluster, ok := object.Of(out.Output.Object)
	if !ok {
		return nil
	}
	note := func(format string, args ...any) {
		c.notes = append(c.notes, out.Name+": "+fmt.Sprintf(format, args...))
	}
	for _, u := range cluster.Companions() {
		key := c.key(u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName())
		switch {
		case c.there[key]:
			note("%s %s is in the manifests already, and is left as it is", u.GetKind(), u.GetName())
			continue
		case u.GetKind() == object.PodMonitorKind.Kind:
			note("%s %s is made in clusters that have this API, and is left out here", u.GetKind(), u.GetName())
			continue
		}
		c.there[key] = true
		raw, err := json.Marshal(u.Object)
		if err != nil {
			return err
		}
		c.docs = append(c.docs, Document{File: "companion " + u.GetKind() + " " + u.GetName() + " of " + out.Name, Number: 1, Line: 1, JSON: raw, Text: raw})
	}
	if name := cluster.SASLSecretName(); name != "" {
		note("Secret %s with the keys %s is needed; the controller in a cluster makes NAME-sasl, and this command makes no passwords", name, strings.Join(cluster.SecretKeys(), ", "))
	}
	if name := cluster.TLSSecret(); name != "" {
		note("Secret %s with the keys tls.crt, tls.key, ca.crt is needed", name)
	}
	if name := cluster.ClientSecretName(); name != "" {
		note("Secret %s, for applications, is made in the cluster", name)
	}
	return nil
}
