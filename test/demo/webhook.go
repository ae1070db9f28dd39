package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

// webhookTimeout is what the webhook may take until it is registered and answers.
const webhookTimeout = time.Minute

// probe is what the API server is asked to store, but not really, to see whether the webhook answers: without it, this
// is an object without containers, which is refused.
const probe = `{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "probe", "annotations": {"metamorph.dev/role": "kafka"}}}`

// startWebhook starts Metamorph as a process beside the API server, with which it registers itself.
func (d *demo) startWebhook(ctx context.Context) (err error) {
	d.step("Metamorph's webhook")
	began := time.Now()
	// Where the leader is elected that makes the companions.
	if _, _, err := d.server.Kubectl(ctx, "", "create", "namespace", admission.DefaultNamespace); err != nil {
		return err
	}
	args := []string{
		"serve", "--self-signed", "--bind-address=127.0.0.1", "--port=0", "--register=https://127.0.0.1",
		"--kubeconfig=" + d.server.Kubeconfig, "--health-address=", "--drain-delay=0s", "--log-format=text",
	}
	if d.webhook, err = start(ctx, d.metamorph, args...); err != nil {
		return fmt.Errorf("starting %s (make build makes it): %w", d.metamorph, err)
	}
	client, err := kubernetes.NewForConfig(d.server.Config)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	var last error
	err = wait.PollUntilContextCancel(waiting, pollInterval, true, func(ctx context.Context) (bool, error) {
		if err := d.webhook.alive(); err != nil {
			return false, err
		}
		_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, admission.RegistrationName, metav1.GetOptions{})
		if err == nil {
			_, _, err = d.server.Kubectl(ctx, probe, "create", "--dry-run=server", "-f", "-")
		}
		if ctx.Err() == nil {
			last = err // and not that of a request that was cut off
		}
		return err == nil, nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("the webhook does not answer: %w", err), last, fmt.Errorf("it said:\n%s", d.webhook.said()))
	}
	d.say("   metamorph serve --self-signed is registered as %s, and answers after %.1f s", admission.RegistrationName, time.Since(began).Seconds())
	return nil
}
