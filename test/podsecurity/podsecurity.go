// Package podsecurity holds pod templates against the Pod Security Standards, with the code that Kubernetes itself uses.
package podsecurity

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Restricted tells what the newest version of the level restricted forbids in a pod of the template; nil if nothing.
// The template must have gone through API defaulting.
func Restricted(template *corev1.PodTemplateSpec) ([]string, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	latest := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var forbidden []string
	for _, result := range evaluator.EvaluatePod(latest, &template.ObjectMeta, &template.Spec) {
		if !result.Allowed {
			forbidden = append(forbidden, fmt.Sprintf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail))
		}
	}
	return forbidden, nil
}
