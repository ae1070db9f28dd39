package server

import (
	"context"
	"fmt"
	"net"
	"net/url"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

// register creates or updates the registrations of both kinds.
func register(ctx context.Context, c client.Client, o admission.RegistrationOptions) error {
	mutating, validating := admission.Registration(o), admission.ValidatingRegistration(o)
	var haveMutating admissionregistrationv1.MutatingWebhookConfiguration
	err := put(ctx, c, mutating, &haveMutating, func() { haveMutating.Webhooks = mutating.Webhooks })
	if err != nil {
		return fmt.Errorf("registering the webhook: %w", err)
	}
	var haveValidating admissionregistrationv1.ValidatingWebhookConfiguration
	err = put(ctx, c, validating, &haveValidating, func() { haveValidating.Webhooks = validating.Webhooks })
	if err != nil {
		return fmt.Errorf("registering the policies: %w", err)
	}
	return nil
}

// put creates want, or reads have, changes it and writes it back.
func put(ctx context.Context, c client.Client, want, have client.Object, change func()) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		err := c.Get(ctx, client.ObjectKeyFromObject(want), have)
		if apierrors.IsNotFound(err) {
			fresh, _ := want.DeepCopyObject().(client.Object)
			return c.Create(ctx, fresh)
		}
		if err != nil {
			return err
		}
		change()
		return c.Update(ctx, have)
	})
}

// registrationURL completes the URL under which the API server finds this process: port 0, or none, stands for the one
// that is listened on.
func registrationURL(text string, listening net.Addr) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("%q is not https://HOST or https://HOST:PORT", text)
	}
	if p := u.Port(); p == "" || p == "0" {
		_, port, err := net.SplitHostPort(listening.String())
		if err != nil {
			return "", err
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	u.Path = ""
	return u.String(), nil
}
