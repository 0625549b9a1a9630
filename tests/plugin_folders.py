"""Distributions made on the spot: what `pip install --target` leaves in a folder, without pip."""

from pathlib import Path


def install(
    folder: Path, distribution: str, entry_points: dict[str, dict[str, str]], *, version: str = "1.0", **modules
):
    """Write metadata with entry points, and modules by name with their source, into a folder for sys.path."""
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    groups = (
        f"[mamba_slm.{kind}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for kind, entries in entry_points.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return folder
