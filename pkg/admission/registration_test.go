package admission_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

func TestRegistrationSortsFirst(t *testing.T) {
	t.Parallel()
	names := []string{"istio-sidecar-injector", "a", "0-first", admission.RegistrationName, "cert-manager-webhook", "vault-agent-injector-cfg"}
	slices.Sort(names)
	// Only somebody who wants to be first too comes before.
	if i := slices.Index(names, admission.RegistrationName); names[0] != "0-first" || i != 1 {
		t.Errorf("the order is %v", names)
	}
}

func TestRegistrationClient(t *testing.T) {
	t.Parallel()
	service := admission.Registration(admission.RegistrationOptions{Namespace: "mm"}).Webhooks[0]
	if s := service.ClientConfig.Service; service.ClientConfig.URL != nil || s == nil || s.Namespace != "mm" || s.Name != admission.ServiceName || *s.Path != "/mutate" || *s.Port != 443 {
		t.Errorf("service %+v", service.ClientConfig)
	}
	url := admission.Registration(admission.RegistrationOptions{URL: "https://localhost:1/", CABundle: []byte("ca")}).Webhooks[0]
	if c := url.ClientConfig; c.Service != nil || *c.URL != "https://localhost:1/mutate" || string(c.CABundle) != "ca" {
		t.Errorf("URL %+v", c)
	}
	exempt := service.NamespaceSelector.MatchExpressions[0]
	if exempt.Key != "kubernetes.io/metadata.name" || exempt.Operator != "NotIn" || !slices.Equal(exempt.Values, []string{"kube-system", "mm"}) {
		t.Errorf("exempt are %+v", exempt)
	}
	// Without has() the expression fails on objects that have no annotations, and with them every one is refused.
	condition := service.MatchConditions[0].Expression
	for _, want := range []string{"has(o.metadata.annotations)", "has(o.metadata.labels)", "o != null", "oldObject == null", "'metamorph.dev/'"} {
		if !strings.Contains(condition, want) {
			t.Errorf("%s is not in %s", want, condition)
		}
	}
}
