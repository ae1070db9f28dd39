package companion

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// kept are the annotations of a StatefulSet that its companions follow from.
var kept = []string{"role", "settings", "managed", "cluster-id", settings.Conditions}

// slimSet keeps of a StatefulSet what its companions follow from: some 3 of 30 KB.
func slimSet(obj any) (any, error) {
	s, ok := obj.(*appsv1.StatefulSet)
	if !ok {
		return obj, nil // a tombstone
	}
	notes := map[string]string{}
	for _, k := range kept {
		if v, ok := s.Annotations[setting.Prefix+k]; ok {
			notes[setting.Prefix+k] = v
		}
	}
	if s.Annotations[setting.Prefix+"source"] != "" {
		notes[setting.Prefix+"source"] = "{}" // it was expanded; from what is nobody's question here
	}
	if v, ok := s.Annotations[appliedAnnotation]; ok {
		notes[appliedAnnotation] = v
	}
	return &appsv1.StatefulSet{
		TypeMeta: s.TypeMeta, ObjectMeta: slimMeta(&s.ObjectMeta, notes),
		Spec:   appsv1.StatefulSetSpec{Replicas: s.Spec.Replicas},
		Status: appsv1.StatefulSetStatus{Replicas: s.Status.Replicas, ReadyReplicas: s.Status.ReadyReplicas},
	}, nil
}

func slimMeta(m *metav1.ObjectMeta, annotations map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels, Annotations: annotations,
		OwnerReferences: m.OwnerReferences, CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// slimPod keeps of a pod whether it is ready, and if not, why.
func slimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	out := &corev1.Pod{TypeMeta: p.TypeMeta, ObjectMeta: slimMeta(&p.ObjectMeta, nil)}
	out.Status.Phase = p.Status.Phase
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady || c.Type == corev1.PodScheduled {
			out.Status.Conditions = append(out.Status.Conditions, c)
		}
	}
	out.Status.InitContainerStatuses = slimContainers(p.Status.InitContainerStatuses)
	out.Status.ContainerStatuses = slimContainers(p.Status.ContainerStatuses)
	// The volume that an ordinal's data is on.
	for _, v := range p.Spec.Volumes {
		if v.Name == setting.DataVolume {
			out.Spec.Volumes = []corev1.Volume{{Name: v.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: v.PersistentVolumeClaim, EmptyDir: v.EmptyDir}}}
		}
	}
	return out, nil
}

func slimContainers(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	out := slices.Clone(all)
	for i, s := range all {
		out[i] = corev1.ContainerStatus{Name: s.Name, Ready: s.Ready, RestartCount: s.RestartCount, State: s.State, LastTerminationState: s.LastTerminationState}
	}
	return out
}

// slimClaim keeps of a claim whether it has a volume, and if not, from which class it waits for one.
func slimClaim(obj any) (any, error) {
	c, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok {
		return obj, nil
	}
	return &corev1.PersistentVolumeClaim{
		TypeMeta: c.TypeMeta, ObjectMeta: slimMeta(&c.ObjectMeta, nil),
		Spec:   corev1.PersistentVolumeClaimSpec{StorageClassName: c.Spec.StorageClassName},
		Status: corev1.PersistentVolumeClaimStatus{Phase: c.Status.Phase},
	}, nil
}
