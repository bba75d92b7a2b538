/* Lets Tesseract keep the image of a text line without compressing it.
 *
 * Tesseract writes the image of each line as a PNG in memory and reads it again. The function
 * pixWriteMem of this library takes the place of Leptonica's and writes the same pixels as SPIX,
 * which is not compressed; Leptonica's pixReadMem detects the format.
 *
 * line_images.py loads the library before Tesseract's and passes it Leptonica's functions, so that
 * it works with any version of Leptonica.
 */

#include <stddef.h>

enum { PNG = 3 }; /* IFF_PNG in Leptonica's imageio.h */

/* Leptonica cannot read an SPIX image with 400 million pixels or more. */
static const long most_pixels = 100000000;

typedef int write_any(unsigned char **data, size_t *size, void *pix, int format);
typedef int write_spix(unsigned char **data, size_t *size, void *pix);
typedef int get_dimensions(const void *pix, int *width, int *height, int *depth);

static write_any *any;
static write_spix *spix; /* NULL: write the format that is asked for */
static get_dimensions *dimensions;
static unsigned long written;

void line_images_connect(write_any *a, write_spix *s, get_dimensions *d)
{
    any = a;
    spix = s;
    dimensions = d;
}

/* Returns the number of images that were written uncompressed. */
unsigned long line_images_written(void)
{
    return written;
}

int pixWriteMem(unsigned char **data, size_t *size, void *pix, int format)
{
    int width, height;

    if (format == PNG && spix != NULL && dimensions != NULL
        && dimensions(pix, &width, &height, NULL) == 0 && (long)width * height <= most_pixels) {
        __atomic_fetch_add(&written, 1, __ATOMIC_RELAXED);
        return spix(data, size, pix);
    }
    return any == NULL ? 1 : any(data, size, pix, format);
}
