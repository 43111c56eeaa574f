import { LabIcon } from '@jupyterlab/ui-components';

/** A hub with what hangs on it; the theme says in which colour. */
export const aiaasIcon = new LabIcon({
  name: '@aiaas-hub/labextension:panel',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <circle cx="12" cy="12" r="4"/>
    <circle cx="4.5" cy="5" r="2.5"/>
    <circle cx="19.5" cy="5" r="2.5"/>
    <circle cx="4.5" cy="19" r="2.5"/>
    <circle cx="19.5" cy="19" r="2.5"/>
    <path d="M5.2 4.3 19.2 18.3l-1.4 1.4L3.8 5.7zM18.8 4.3l1.4 1.4L6.2 19.7l-1.4-1.4z"/>
  </g>
</svg>`
});
