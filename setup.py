"""What pyproject.toml cannot say: the build makes the messages of gRPC from their .proto files."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PROTOS = Path("service/protos")


class BuildPy(build_py):
    """Python's modules, those of the messages among them: `inference_pb2.py` and its types."""

    def run(self) -> None:
        """Make the modules where they are imported from, then go on as always."""
        from grpc_tools import protoc

        files = [str(file.relative_to(ROOT)) for file in sorted((ROOT / PROTOS).glob("*.proto"))]
        well_known = Path(protoc.__file__).parent / "_proto"
        arguments = [f"-I{ROOT}", f"-I{well_known}", f"--python_out={ROOT}", f"--pyi_out={ROOT}"]
        if protoc.main(["protoc", *arguments, *files]) != 0:
            raise RuntimeError(f"protoc cannot compile the files in {PROTOS}")
        super().run()


setup(cmdclass={"build_py": BuildPy})
