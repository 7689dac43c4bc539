"""Thumbnails. The same file runs everywhere; each role's offload.toml says what it takes on."""

from PIL import Image, ImageOps, UnidentifiedImageError

from offload import App, File

app = App()


@app.consumer(
    "image/thumbnail", isolate="process", timeout="2m", give_up_on=(UnidentifiedImageError,)
)
def thumbnail(photo: File, size: int = 256) -> File:
    with Image.open(photo.path) as image:
        small = ImageOps.exif_transpose(image)
        small.thumbnail((size, size))
    target = photo.path.with_name(f"{photo.path.stem}-{size}.jpg")
    small.convert("RGB").save(target)
    print(f"{photo.name}: {small.width} x {small.height}")
    return File(target)
