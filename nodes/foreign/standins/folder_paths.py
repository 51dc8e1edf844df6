"""Where files lie: the folders of the run that asks."""

import os
from pathlib import Path

from graphflow import GraphFlowError, Problem
from graphflow.spi import current_settings

supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
_ADDED = {}


def _roots(folder_name):
    added, _ = _ADDED.get(folder_name, ([], set()))
    return [*added, *(str(Path(root) / folder_name) for root in current_settings().models)]


class _Folders(dict):
    """Folder name -> (paths, endings), for the model folders of the run; packs may add their own."""

    def __missing__(self, name):
        return (_roots(name), set(supported_pt_extensions))

    def __contains__(self, name):
        return True

    def __setitem__(self, name, value):
        _ADDED[name] = (list(value[0]), set(value[1]))
        super().__setitem__(name, value)

    def get(self, name, default=None):
        return self[name]


folder_names_and_paths = _Folders()


def get_output_directory():
    return str(current_settings().output_dir.resolve())


def get_input_directory():
    return str(current_settings().input_dir.resolve())


def get_temp_directory():
    return str(current_settings().temp_dir.resolve())


def get_user_directory():
    return str(current_settings().output_dir.resolve().parent / "user")


def get_system_user_directory(name="system"):
    return os.path.join(get_user_directory(), f"__{name}")


def get_directory_by_type(type_name):
    return {"output": get_output_directory, "input": get_input_directory, "temp": get_temp_directory}.get(
        type_name, lambda: None
    )()


def __getattr__(name):
    if name == "base_path":
        return os.getcwd()
    if name == "models_dir":
        return str(next(iter(current_settings().models), Path("models")).resolve())
    if name == "output_directory":
        return get_output_directory()
    if name == "input_directory":
        return get_input_directory()
    if name == "temp_directory":
        return get_temp_directory()
    raise AttributeError(name)


def add_model_folder_path(folder_name, full_folder_path, is_default=False):
    paths, endings = _ADDED.setdefault(folder_name, ([], set()))
    if full_folder_path not in paths:
        paths.insert(0 if is_default else len(paths), full_folder_path)
    dict.__setitem__(folder_names_and_paths, folder_name, (paths, endings))


def get_folder_paths(folder_name):
    return _roots(folder_name)


def recursive_search(directory, excluded_dir_names=None):
    """(names of all files below, relative; {folder: time of its last change})"""
    excluded = set(excluded_dir_names or ())
    names, times = [], {}
    for folder, inner, files in os.walk(directory):
        inner[:] = [name for name in inner if name not in excluded]
        times[folder] = os.path.getmtime(folder)
        names += [os.path.relpath(os.path.join(folder, name), directory) for name in files]
    return names, times


def filter_files_extensions(files, extensions):
    endings = {ending.lower() for ending in extensions}
    return sorted(name for name in files if not endings or os.path.splitext(name)[1].lower() in endings)


_CONTENT = {
    "image": {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"},
    "video": {".mp4", ".webm", ".mov", ".mkv", ".avi"},
    "audio": {".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a"},
    "model": {".glb", ".gltf", ".obj", ".stl", ".fbx"},
}


def filter_files_content_types(files, content_types):
    wanted = set().union(*(_CONTENT.get(kind, set()) for kind in content_types))
    return [name for name in files if os.path.splitext(name)[1].lower() in wanted]


def get_filename_list(folder_name):
    paths, endings = folder_names_and_paths[folder_name]
    found = set()
    for path in dict.fromkeys([*_roots(folder_name), *paths]):
        if os.path.isdir(path):
            found |= set(filter_files_extensions(recursive_search(path)[0], endings))
    return sorted(found)


def _inside(root, name):
    """The path of a name in a folder, or None if it would lie anywhere else."""
    root = os.path.realpath(root)
    path = os.path.realpath(os.path.join(root, str(name).replace("\0", "")))
    return path if path != root and os.path.commonpath([root, path]) == root else None


def get_full_path(folder_name, filename):
    for root in _roots(folder_name):
        path = _inside(root, filename)
        if path is not None and os.path.isfile(path):
            return path
    return None


def get_full_path_or_raise(folder_name, filename):
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"no model folder has {folder_name}/{filename}")
    return path


def annotated_filepath(name):
    """`x.png [output]` -> (`x.png`, the output folder)."""
    for kind in ("output", "input", "temp"):
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 2].strip(), get_directory_by_type(kind)
    return name, None


def get_annotated_filepath(name, default_dir=None):
    name, folder = annotated_filepath(name)
    path = _inside(folder or default_dir or get_input_directory(), name)
    if path is None:
        raise GraphFlowError([Problem("outside_folder", f"{name!r} leads out of its folder")])
    return path


def exists_annotated_filepath(name):
    name, folder = annotated_filepath(name)
    path = _inside(folder or get_input_directory(), name)
    return path is not None and os.path.exists(path)


def get_save_image_path(filename_prefix, output_dir, image_width=0, image_height=0):
    """(folder, file name, next number, sub-folder, prefix) for `FOLDER/NAME_00001_.png`."""
    import re

    from graphflow_nodes.files.prefixes import target_of

    root = Path(output_dir).resolve()
    target = target_of(root, str(filename_prefix), image_width, image_height)
    folder, name = str(target.parent), target.name
    os.makedirs(folder, exist_ok=True)
    taken = re.compile(re.escape(name) + r"_(\d+)")
    numbers = [int(found[1]) for entry in os.listdir(folder) if (found := taken.match(entry))]
    subfolder = os.path.relpath(folder, root)
    return (
        folder,
        name,
        max(numbers, default=0) + 1,
        "" if subfolder == "." else subfolder,
        os.path.relpath(target, root),
    )
