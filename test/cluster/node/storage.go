package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisioner is the name that the storage class refers to.
const provisioner = "cluster.metamorph.dev/directory"

// provision makes a directory for each claim, and removes it when the volume is released and not to be retained.
func (s *supervisor) provision(ctx context.Context, client kubernetes.Interface) error {
	volumes := directories(s.path("volumes"))
	if err := os.Mkdir(string(volumes), 0o755); err != nil {
		return err
	}
	c := controller.NewProvisionController(ctx, client, provisioner, volumes, controller.LeaderElection(false))
	go c.Run(ctx)
	return nil
}

// directories provisions volumes as directories below one.
type directories string

func (d directories) Provision(_ context.Context, o controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	path := filepath.Join(string(d), o.PVName)
	if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, controller.ProvisioningNoChange, err
	}
	if err := os.Chmod(path, 0o777); err != nil { // as the file system of a new disk is for fsGroup
		return nil, controller.ProvisioningNoChange, err
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: o.PVC.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName}}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (d directories) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	return os.RemoveAll(filepath.Join(string(d), filepath.Base(volume.Spec.Local.Path)))
}

// snapshotter is how containerd stacks the layers of images in a directory.
func snapshotter(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native" // overlays do not stack
	}
	return "overlayfs"
}
