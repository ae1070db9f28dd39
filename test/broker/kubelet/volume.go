package kubelet

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// emptyDirMode is what the kubelet gives an emptyDir.
const emptyDirMode = 0o777

// volumes lays out the pod's volumes and returns their directories by name.
func (p *Pod) volumes(dir string) (map[string]string, error) {
	out := map[string]string{}
	for _, claim := range p.set.Spec.VolumeClaimTemplates {
		at := p.Claim(claim.Name)
		if err := p.provision(at); err != nil {
			return nil, fmt.Errorf("claim %s: %w", claim.Name, err)
		}
		out[claim.Name] = at
	}
	for i := range p.set.Spec.Template.Spec.Volumes {
		v := &p.set.Spec.Template.Spec.Volumes[i]
		at := filepath.Join(dir, "volumes", v.Name)
		if err := p.volume(v, at); err != nil {
			return nil, fmt.Errorf("MountVolume.SetUp failed for volume %q: %w", v.Name, err)
		}
		out[v.Name] = at
	}
	return out, nil
}

// Claim is the directory of a claim of the pod. It outlives the pod.
func (p *Pod) Claim(name string) string {
	return filepath.Join(p.namespace.dir, "claims", name+"-"+p.Name)
}

// provision makes a volume as a fresh ext4 file system is, which is not empty, unless it is there.
func (p *Pod) provision(at string) error {
	if _, err := os.Stat(at); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(at, "lost+found"), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(at, "lost+found"), 0o700); err != nil {
		return err
	}
	return p.own(at, 0o755|0o060|os.ModeSetgid)
}

// own gives a directory or file to the pod's group, as the kubelet does with fsGroup.
func (p *Pod) own(at string, mode fs.FileMode) error {
	if context := p.set.Spec.Template.Spec.SecurityContext; context != nil && context.FSGroup != nil && p.namespace.User < 0 {
		if err := os.Lchown(at, 0, int(*context.FSGroup)); err != nil {
			return err
		}
	}
	return os.Chmod(at, mode)
}

func (p *Pod) volume(v *corev1.Volume, at string) error {
	n := p.namespace
	switch {
	case v.EmptyDir != nil:
		if err := os.MkdirAll(at, 0o777); err != nil {
			return err
		}
		return p.own(at, emptyDirMode|os.ModeSetgid)
	case v.DownwardAPI != nil:
		files := map[string][]byte{}
		for _, item := range v.DownwardAPI.Items {
			if item.FieldRef == nil {
				return fmt.Errorf("item %s: no fieldRef, and nothing else is known here", item.Path)
			}
			text, err := p.field(item.FieldRef.FieldPath)
			if err != nil {
				return err
			}
			files[item.Path] = []byte(text)
		}
		return p.project(at, files, v.DownwardAPI.DefaultMode)
	case v.Secret != nil:
		n.mu.Lock()
		data, ok := n.secrets[v.Secret.SecretName]
		n.mu.Unlock()
		optional := v.Secret.Optional != nil && *v.Secret.Optional
		if !ok && !optional {
			return fmt.Errorf("secret %q not found", v.Secret.SecretName)
		}
		files, err := items(data, v.Secret.Items, optional)
		if err != nil {
			return err
		}
		return p.project(at, files, v.Secret.DefaultMode)
	case v.ConfigMap != nil:
		n.mu.Lock()
		texts, ok := n.configMaps[v.ConfigMap.Name]
		n.mu.Unlock()
		optional := v.ConfigMap.Optional != nil && *v.ConfigMap.Optional
		if !ok && !optional {
			return fmt.Errorf("configmap %q not found", v.ConfigMap.Name)
		}
		data := map[string][]byte{}
		for k, text := range texts {
			data[k] = []byte(text)
		}
		files, err := items(data, v.ConfigMap.Items, optional)
		if err != nil {
			return err
		}
		return p.project(at, files, v.ConfigMap.DefaultMode)
	}
	return fmt.Errorf("a kind of volume that is not known here: %v", v.VolumeSource)
}

// items chooses what of a Secret or ConfigMap becomes a file.
func items(data map[string][]byte, items []corev1.KeyToPath, optional bool) (map[string][]byte, error) {
	if items == nil {
		return data, nil
	}
	files := map[string][]byte{}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return nil, fmt.Errorf("references non-existent secret key: %s", item.Key)
		}
		files[item.Path] = value
	}
	return files, nil
}

// project writes files as the kubelet does: in a directory of their own, behind two symbolic links, so that all of them
// change at once.
func (p *Pod) project(at string, files map[string][]byte, mode *int32) error {
	const version = "..2026_01_01_00_00_00.000000001"
	perm := fs.FileMode(0o644)
	if mode != nil {
		perm = fs.FileMode(*mode)
	}
	if err := os.MkdirAll(filepath.Join(at, version), 0o755); err != nil {
		return err
	}
	for name, data := range files {
		file := filepath.Join(at, version, name)
		if err := os.WriteFile(file, data, perm); err != nil {
			return err
		}
		if err := p.own(file, perm); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(at, name)); err != nil {
			return err
		}
	}
	return os.Symlink(version, filepath.Join(at, "..data"))
}

// field reads a field of the pod, as the downward API has them.
func (p *Pod) field(path string) (string, error) {
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.namespace.Name, nil
	case "status.podIP":
		return p.endpoint.addr.String(), nil
	}
	for prefix, values := range map[string]map[string]string{
		"metadata.annotations['": p.set.Spec.Template.Annotations,
		"metadata.labels['":      p.Labels,
	} {
		if key, ok := strings.CutPrefix(path, prefix); ok {
			// Absent is empty.
			return values[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("fieldPath %s is not known here", path)
}
